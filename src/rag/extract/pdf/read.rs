//! Reads an opened PDF page by page. Runs in the child process only: what it calls may panic or never end.

use std::collections::HashMap;

use pdf_extract::{Dictionary, Document, ObjectId};

use super::super::protocol::{PageContent, Refusal, Scan};
use super::super::reader::Reader;
use super::encoding::Encodings;
use super::font::Font;
use super::headings::{PlacedLine, Sizes, of_bookmarks};
use super::outline::{Bookmark, bookmarks};
use super::page::{FontKey, PageFonts, read_page};
use super::{clean, document, layout, picture};

pub struct PdfReader {
    document: Document,
    pages: Vec<ObjectId>,
    encodings: Encodings,
    fonts: HashMap<FontKey, std::rc::Rc<Font>>,
    wants_scans: bool,
    /// By the index of the page that they lead to.
    bookmarks: HashMap<usize, Vec<Bookmark>>,
    sizes: Sizes,
}

impl PdfReader {
    pub fn open(
        bytes: Vec<u8>,
        password: Option<&str>,
        wants_scans: bool,
    ) -> Result<Self, Refusal> {
        let document = document::open(&bytes, password)?;
        let pages = document::pages(&document);
        let bookmarks = bookmarks(&document, &pages);
        Ok(Self {
            document,
            pages,
            encodings: Encodings::default(),
            fonts: HashMap::new(),
            wants_scans,
            bookmarks,
            sizes: Sizes::default(),
        })
    }
}

impl Reader for PdfReader {
    fn num_pages(&self) -> u32 {
        self.pages.len() as u32
    }

    fn title(&self) -> Option<String> {
        document::title(&self.document)
    }

    fn page(&mut self, number: u32) -> Result<PageContent, String> {
        let index = number as usize - 1;
        let id = *self.pages.get(index).ok_or("there is no such page")?;
        let fonts = PageFonts {
            encodings: &mut self.encodings,
            known: &mut self.fonts,
        };
        let no_resources = Dictionary::new();
        let drawn = read_page(&self.document, id, fonts, &no_resources)?;
        let num_glyphs = drawn.glyphs.len();
        let lines = layout::text_lines(drawn.glyphs);
        let (text, offsets) = clean::joined(
            lines
                .iter()
                .map(|line| (line.text.as_str(), line.begins_paragraph)),
        );
        if text.is_empty() && num_glyphs > 0 && drawn.num_unreadable * 2 > num_glyphs {
            let failure = "its fonts do not say which letters they draw".to_owned();
            if !self.wants_scans {
                return Err(failure);
            }
            return Ok(PageContent {
                scan: Some(Scan {
                    picture: None,
                    failure: Some(failure),
                }),
                ..PageContent::default()
            });
        }
        let scan = match text.is_empty() {
            true => picture::scan(&self.document, id, &drawn.images, self.wants_scans),
            false => None,
        };
        let has_images = !drawn.images.is_empty();
        let ends = offsets.iter().copied().skip(1).chain([text.len()]);
        let spans = offsets.iter().copied().zip(ends);
        let lines: Vec<PlacedLine<'_>> = lines
            .iter()
            .zip(spans)
            .map(|(line, (start, end))| PlacedLine {
                text: text.get(start..end).unwrap_or_default().trim_end(),
                offset: start,
                size: line.size,
                begins_paragraph: line.begins_paragraph,
            })
            .filter(|line| !line.text.is_empty())
            .collect();
        self.sizes.add(&lines);
        let headings = match self.bookmarks.is_empty() {
            true => self.sizes.headings(&text, &lines),
            false => {
                let of_page = self.bookmarks.get(&index).map(Vec::as_slice);
                of_bookmarks(of_page.unwrap_or_default(), &text, &lines)
            }
        };
        Ok(PageContent {
            text,
            has_images,
            scan,
            headings,
            ..PageContent::default()
        })
    }
}
