//! Collects the text of a page as it is read: paragraphs, lines that belong together, headings, and where further
//! pages begin. Never holds more text than a document may have.

use super::Heading;
use super::protocol::PageContent;
use super::text;

/// The longest text of what is read in one go.
pub const MAX_PAGE_BYTES: usize = 128 << 20;

/// Stands in a text for the beginning of a new page.
pub const PAGE_MARK: char = '\u{c}';

/// Stands in a text where the program that wrote it had laid out a new page.
pub const LAID_OUT_MARK: char = '\u{b}';

/// Why a page begins.
#[derive(Clone, Copy, PartialEq)]
enum PageBegin {
    /// A break stands there.
    Break,
    /// What follows asks to be the first on its page.
    Asked,
    LaidOut,
}

#[derive(Default)]
pub struct Writer {
    text: String,
    headings: Vec<Heading>,
    breaks: Vec<usize>,
    is_in_block: bool,
    /// Pages that begin before what is written next.
    num_page_begins: usize,
    last_begin: Option<PageBegin>,
    is_full: bool,
    pub has_images: bool,
    /// What is missing in the text, and why.
    pub unread: Vec<String>,
}

impl Writer {
    /// Words that stand for themselves, between empty lines.
    pub fn paragraph(&mut self, words: &str) {
        self.end_block();
        self.line(words);
        self.end_block();
    }

    /// A line of a block: what is written next stands right under it.
    pub fn line(&mut self, words: &str) {
        self.write(words);
    }

    /// What comes next stands behind an empty line.
    pub fn end_block(&mut self) {
        self.is_in_block = false;
    }

    pub fn heading(&mut self, level: u8, title: &str) {
        let is_mark = |c: &char| matches!(*c, PAGE_MARK | LAID_OUT_MARK);
        let words_at = title
            .find(|c: char| !c.is_whitespace())
            .unwrap_or(title.len());
        let (before, words) = title.split_at(words_at);
        before.chars().filter(is_mark).for_each(|c| self.mark(c));
        self.end_block();
        let on_one_line = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(offset) = self.write(&on_one_line) {
            self.headings.push(Heading {
                level: level.max(1),
                title: self.text[offset..].to_owned(),
                offset,
            });
        }
        // One that goes on over a page's end is taken to stand before it.
        words.chars().filter(is_mark).for_each(|c| self.mark(c));
        self.end_block();
    }

    /// What comes next stands on a new page.
    pub fn new_page(&mut self) {
        self.begin_page(PageBegin::Asked);
        self.end_block();
    }

    /// What comes next was laid out on a new page.
    pub fn laid_out_page(&mut self) {
        self.begin_page(PageBegin::LaidOut);
    }

    /// Nothing was written but one heading.
    pub fn has_only_heading(&self) -> bool {
        matches!(self.headings.as_slice(), [heading] if heading.title == self.text)
    }

    /// Adds what was read elsewhere, its headings `deeper` levels under those here.
    pub fn insert(&mut self, content: PageContent, deeper: u8) {
        self.end_block();
        self.unread.extend(content.unread);
        let words = content.text.trim_end();
        if words.is_empty() {
            return;
        }
        if self.text.len() + words.len() > MAX_PAGE_BYTES {
            self.is_full = true;
            return;
        }
        self.separate();
        let start = self.text.len();
        self.text.push_str(words);
        self.headings
            .extend(content.headings.into_iter().map(|heading| Heading {
                level: heading.level.saturating_add(deeper),
                offset: heading.offset + start,
                ..heading
            }));
        self.end_block();
    }

    /// A page that has nothing but a heading that was made up for it.
    pub fn without_words(self) -> PageContent {
        PageContent {
            has_images: self.has_images,
            unread: self.unread,
            ..PageContent::default()
        }
    }

    /// No room for more: what is written now is lost, and `finish` will say so.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    pub fn finish(mut self) -> Result<PageContent, String> {
        if self.is_full {
            return Err(format!(
                "it has more than {MAX_PAGE_BYTES} bytes of text; split it"
            ));
        }
        if !self.text.is_empty() {
            self.break_pages();
        }
        Ok(PageContent {
            text: self.text,
            has_images: self.has_images,
            headings: self.headings,
            breaks: self.breaks,
            scan: None,
            unread: self.unread,
        })
    }

    /// Where the words begin, if there are any.
    fn write(&mut self, words: &str) -> Option<usize> {
        let mut offset = None;
        // The white space around a mark that stands among the words.
        let mut between = String::new();
        for piece in words.split_inclusive([PAGE_MARK, LAID_OUT_MARK]) {
            let mark = piece.chars().next_back();
            let mark = mark.filter(|c| matches!(*c, PAGE_MARK | LAID_OUT_MARK));
            let piece = &piece[..piece.len() - mark.map_or(0, char::len_utf8)];
            let piece = text::clean(piece);
            let words = piece.trim_end();
            let words = match offset {
                None => words.trim_start_matches('\n'),
                Some(_) => words.trim_start(),
            };
            let indent = piece.len() - piece.trim_start().len();
            between.push_str(&piece[..indent]);
            if !words.trim().is_empty() {
                if self.text.len() + words.len() > MAX_PAGE_BYTES {
                    self.is_full = true;
                    return None;
                }
                if offset.is_none() {
                    self.separate();
                } else if between.contains('\n') {
                    self.text.push('\n');
                } else if !between.is_empty() {
                    self.text.push(' ');
                }
                between = piece[piece.trim_end().len()..].to_owned();
                self.break_pages();
                offset.get_or_insert(self.text.len());
                self.text.push_str(words);
            }
            mark.into_iter().for_each(|c| self.mark(c));
        }
        if offset.is_some() {
            self.is_in_block = true;
        }
        offset
    }

    fn mark(&mut self, mark: char) {
        self.begin_page(match mark {
            LAID_OUT_MARK => PageBegin::LaidOut,
            _ => PageBegin::Break,
        });
    }

    /// Counts the pages that begin before the next words. A program that notes where it has laid out a page does so also
    /// where the page was asked for: that is one page.
    fn begin_page(&mut self, begin: PageBegin) {
        use PageBegin::{Asked, Break, LaidOut};
        let before = self.last_begin.replace(begin);
        let is_same = match (before, begin) {
            (Some(Break | Asked), LaidOut) => {
                self.last_begin = None;
                true
            }
            (Some(LaidOut), Asked) => true,
            // The first page is there already.
            (None, Asked) => self.text.is_empty() && self.num_page_begins == 0,
            _ => false,
        };
        self.num_page_begins += usize::from(!is_same);
    }

    fn break_pages(&mut self) {
        const MAX_BREAKS: usize = 20_000;
        self.last_begin = None;
        let num_begins = std::mem::take(&mut self.num_page_begins);
        let room = MAX_BREAKS.saturating_sub(self.breaks.len());
        let breaks = std::iter::repeat_n(self.text.len(), num_begins.min(room));
        self.breaks.extend(breaks);
    }

    fn separate(&mut self) {
        if !self.text.is_empty() {
            self.text.push_str(match self.is_in_block {
                true => "\n",
                false => "\n\n",
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_headings_and_pages_know_their_place() {
        let mut writer = Writer::default();
        writer.new_page();
        writer.heading(2, "The\n title");
        writer.line("- one");
        writer.line("- two\u{7}");
        writer.paragraph("  \n");
        writer.paragraph("ends here \u{c}and goes o\u{c}n\n");
        writer.heading(1, "\u{c}Next");
        let page = writer.finish().expect("fits");
        assert_eq!(
            page.text,
            "The title\n\n- one\n- two\n\nends here and goes on\n\nNext"
        );
        let begins: Vec<_> = page
            .breaks
            .iter()
            .map(|at| &page.text[*at..][..4])
            .collect();
        assert_eq!(begins, ["and ", "n\n\nN", "Next"]);
        let headings: Vec<_> = page
            .headings
            .iter()
            .map(|it| (it.level, &page.text[it.offset..][..it.title.len()]))
            .collect();
        assert_eq!(headings, [(2, "The title"), (1, "Next")]);
    }

    #[test]
    fn pages_without_words_count_and_one_page_is_not_counted_twice() {
        let mut writer = Writer::default();
        writer.new_page();
        writer.paragraph("one\n\u{c}");
        writer.paragraph("\u{b}two");
        writer.new_page();
        writer.paragraph("\u{b}three");
        writer.paragraph("\u{b}");
        writer.paragraph("\u{b}five\u{c}");
        writer.heading(1, "\u{b}six\u{c}");
        writer.laid_out_page();
        writer.new_page();
        writer.paragraph("\u{c}");
        writer.paragraph("nine");
        let page = writer.finish().expect("fits");
        let words: Vec<usize> = [
            "two", "three", "five", "five", "six", "nine", "nine", "nine",
        ]
        .iter()
        .map(|word| page.text.find(word).expect("written"))
        .collect();
        assert_eq!(page.breaks, words);
    }

    #[test]
    fn a_text_that_is_too_long_is_an_error() {
        let mut writer = Writer::default();
        let megabyte = "x".repeat(1 << 20);
        for _ in 0..=MAX_PAGE_BYTES >> 20 {
            writer.line(&megabyte);
        }
        assert!(writer.is_full());
        assert!(
            writer
                .finish()
                .is_err_and(|reason| reason.contains("split it"))
        );
    }
}
