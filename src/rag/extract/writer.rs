//! Collects the text of a page as it is read: paragraphs, lines that belong together, headings, and where further
//! pages begin. Never holds more text than a document may have.

use super::Heading;
use super::protocol::PageContent;
use super::text;

/// The longest text of what is read in one go.
pub const MAX_PAGE_BYTES: usize = 128 << 20;

/// Stands in a text for the beginning of a new page.
pub const PAGE_MARK: char = '\u{c}';

#[derive(Default)]
pub struct Writer {
    text: String,
    headings: Vec<Heading>,
    breaks: Vec<usize>,
    is_in_block: bool,
    begins_page: bool,
    is_full: bool,
    pub has_images: bool,
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
        let on_one_line = title.replace(PAGE_MARK, " \u{c} ");
        let on_one_line = on_one_line.split_whitespace().collect::<Vec<_>>().join(" ");
        self.begins_page |= title.trim_start_matches([' ', '\n']).starts_with(PAGE_MARK);
        self.end_block();
        if let Some(offset) = self.write(&on_one_line) {
            self.headings.push(Heading {
                level: level.max(1),
                title: self.text[offset..].to_owned(),
                offset,
            });
        }
        self.end_block();
    }

    /// What comes next stands on a new page.
    pub fn new_page(&mut self) {
        self.begins_page = true;
        self.end_block();
    }

    /// Adds what was read elsewhere, its headings `deeper` levels under those here.
    pub fn insert(&mut self, content: PageContent, deeper: u8) {
        self.end_block();
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

    /// No room for more: what is written now is lost, and `finish` will say so.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    pub fn finish(self) -> Result<PageContent, String> {
        if self.is_full {
            return Err(format!(
                "it has more than {MAX_PAGE_BYTES} bytes of text; split it"
            ));
        }
        Ok(PageContent {
            text: self.text,
            has_images: self.has_images,
            headings: self.headings,
            breaks: self.breaks,
        })
    }

    /// Where the words begin, if there are any.
    fn write(&mut self, words: &str) -> Option<usize> {
        let mut offset = None;
        // The white space around a mark that stands among the words.
        let mut between = String::new();
        for (index, piece) in words.split(PAGE_MARK).enumerate() {
            self.begins_page |= index > 0;
            let piece = text::clean(piece);
            let words = piece.trim_end();
            let words = match offset {
                None => words.trim_start_matches('\n'),
                Some(_) => words.trim_start(),
            };
            let indent = piece.len() - piece.trim_start().len();
            between.push_str(&piece[..indent]);
            if words.trim().is_empty() {
                continue;
            }
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
            if std::mem::take(&mut self.begins_page) && !self.text.is_empty() {
                self.breaks.push(self.text.len());
            }
            offset.get_or_insert(self.text.len());
            self.text.push_str(words);
        }
        if offset.is_some() {
            self.is_in_block = true;
        }
        offset
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
