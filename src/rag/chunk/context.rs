//! What is embedded before a chunk's text and never cited: the title and the headings that it stands under. A passage
//! says less of its subject than its place in the document does.

use std::ops::Range;

use super::super::extract::ExtractedText;
use super::Ruler;

/// The context may take this part of a chunk, no more.
const MAX_SHARE: usize = 4;

pub struct Contexts<'a> {
    doc: &'a ExtractedText,
    ruler: &'a Ruler<'a>,
    max_tokens: usize,
}

impl<'a> Contexts<'a> {
    pub fn new(doc: &'a ExtractedText, ruler: &'a Ruler<'a>, max_tokens: usize) -> Self {
        Self {
            doc,
            ruler,
            max_tokens: max_tokens / MAX_SHARE,
        }
    }

    /// The context of text that begins at `start` under these headings, and its size. Headings that stand in the text
    /// itself are not repeated. When not all of it fits, the innermost headings do; none is cut.
    pub fn of(&self, headings: &[usize], start: usize) -> (String, usize) {
        let above = headings
            .iter()
            .map(|index| &self.doc.headings[*index])
            .filter(|heading| heading.offset < start)
            .map(|heading| heading.title.trim());
        let mut lines: Vec<&str> = Vec::new();
        if let Some(title) = self.doc.title.as_deref().map(str::trim)
            && !self.stands_at(title, start)
        {
            lines.push(title);
        }
        lines.extend(above);
        lines.retain(|line| !line.is_empty());
        // The first heading often is the title.
        lines.dedup();
        loop {
            let context: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
            let size = self.ruler.size_of(&context);
            if size <= self.max_tokens {
                return (context, size);
            }
            lines.remove(0);
        }
    }

    /// What says what the text belongs to, such as the head of its table; nothing where it takes too much.
    pub fn lead(&self, span: Option<&Range<usize>>) -> (&'a str, usize) {
        let text = span.map_or("", |span| &self.doc.text[span.clone()]);
        // No text of more bytes fits: no need to have it counted.
        if text.len() > self.max_tokens * super::MAX_BYTES_PER_TOKEN {
            return ("", 0);
        }
        match self.ruler.size_of(text) {
            size if size <= self.max_tokens => (text, size),
            _ => ("", 0),
        }
    }

    fn stands_at(&self, title: &str, start: usize) -> bool {
        let text = self.doc.text[start..].trim_start_matches(['#', ' ', '=']);
        text.starts_with(title)
    }
}
