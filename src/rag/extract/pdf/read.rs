//! Reads an opened PDF page by page. Runs in the child process only: what it calls may panic or never end.

use std::collections::HashMap;

use pdf_extract::{Document, ObjectId};

use super::super::protocol::{PageContent, Refusal};
use super::super::reader::Reader;
use super::encoding::Encodings;
use super::font::Font;
use super::page::{FontKey, PageFonts, read_page};
use super::{clean, document, layout};

pub struct PdfReader {
    document: Document,
    pages: Vec<ObjectId>,
    encodings: Encodings,
    fonts: HashMap<FontKey, std::rc::Rc<Font>>,
}

impl PdfReader {
    pub fn open(bytes: Vec<u8>) -> Result<Self, Refusal> {
        let document = document::open(&bytes)?;
        let pages = document::pages(&document);
        Ok(Self {
            document,
            pages,
            encodings: Encodings::default(),
            fonts: HashMap::new(),
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
        let id = *self
            .pages
            .get(number as usize - 1)
            .ok_or("there is no such page")?;
        let fonts = PageFonts {
            encodings: &mut self.encodings,
            known: &mut self.fonts,
        };
        let drawn = read_page(&self.document, id, fonts)?;
        let num_glyphs = drawn.glyphs.len();
        let text = clean::page(&layout::text(drawn.glyphs));
        if text.is_empty() && num_glyphs > 0 && drawn.num_unreadable * 2 > num_glyphs {
            return Err("its fonts do not say which letters they draw".to_owned());
        }
        Ok(PageContent {
            text,
            has_images: drawn.has_images,
            ..PageContent::default()
        })
    }
}
