//! Which headings a part of a document stands under.

use super::super::extract::ExtractedText;
use super::pieces::Piece;

/// The headings that all pieces have in common, outermost first, by index.
pub fn common_headings(doc: &ExtractedText, pieces: &[Piece]) -> Vec<usize> {
    let mut sections: Vec<usize> = pieces.iter().map(|piece| piece.section).collect();
    sections.dedup();
    let mut paths = sections
        .into_iter()
        .map(|section| open_headings(doc, section));
    let first = paths.next().unwrap_or_default();
    paths.fold(first, |mut common, path| {
        let len = common.iter().zip(&path).take_while(|(a, b)| a == b).count();
        common.truncate(len);
        common
    })
}

/// The headings that are open in a section: the last one before it, and those of higher rank above that.
/// Section 0 is before the first heading, section n begins with heading n - 1.
pub fn open_headings(doc: &ExtractedText, section: usize) -> Vec<usize> {
    let mut open = Vec::new();
    let mut level = u8::MAX;
    for index in (0..section).rev() {
        if doc.headings[index].level < level {
            level = doc.headings[index].level;
            open.push(index);
        }
        if level <= 1 {
            break;
        }
    }
    open.reverse();
    open
}
