//! Which lines of a page are headings: those that a bookmark of the page names; where a document has no bookmarks, those
//! in clearly larger letters than its running text.

use std::collections::BTreeMap;

use super::super::Heading;
use super::outline::Bookmark;

/// A line of a page's final text.
pub struct PlacedLine<'t> {
    pub text: &'t str,
    /// Where it begins in the page's text.
    pub offset: usize,
    pub size: f64,
    pub begins_paragraph: bool,
}

/// The headings that the bookmarks of a page name, as the page shows them.
pub fn of_bookmarks(bookmarks: &[Bookmark], text: &str, lines: &[PlacedLine<'_>]) -> Vec<Heading> {
    let mut headings = Vec::new();
    for bookmark in bookmarks {
        let wanted = letters(&bookmark.title);
        let found = (0..lines.len()).find_map(|at| {
            let num_lines = num_lines_of(&lines[at..], &wanted)?;
            Some(&lines[at..at + num_lines])
        });
        if let Some(block) = found.filter(|_| !wanted.is_empty()) {
            headings.push(Heading {
                level: bookmark.level,
                title: title(text, block),
                offset: block[0].offset,
            });
        }
    }
    headings.sort_by_key(|heading| heading.offset);
    headings.dedup_by_key(|heading| heading.offset);
    headings
}

/// How many of the first lines are the heading, with or without a number before it; `None` if they are not.
fn num_lines_of(lines: &[PlacedLine<'_>], wanted: &str) -> Option<usize> {
    const MAX_LINES: usize = 4;
    let mut found = String::new();
    for (index, line) in lines.iter().take(MAX_LINES).enumerate() {
        found.push_str(&letters(line.text));
        if found == wanted || without_number(&found) == without_number(wanted) {
            return Some(index + 1);
        }
        if found.len() > wanted.len() + 16 {
            return None;
        }
    }
    None
}

/// Lines that follow each other, on one.
fn title(text: &str, block: &[PlacedLine<'_>]) -> String {
    let last = &block[block.len() - 1];
    let shown = &text[block[0].offset..last.offset + last.text.len()];
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Letters and digits alone, in lower case: spaces and points differ between a bookmark and its heading.
fn letters(text: &str) -> String {
    let kept = text.chars().filter(|c| c.is_alphanumeric());
    kept.flat_map(char::to_lowercase).collect()
}

fn without_number(text: &str) -> &str {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    match rest.is_empty() {
        true => text,
        false => rest,
    }
}

/// How many letters of the document so far have which size, in tenths of a point.
#[derive(Default)]
pub struct Sizes {
    num_letters: BTreeMap<u32, usize>,
}

/// Larger than running text by this much is clear.
const HEADING_RATIO: f64 = 1.14;

impl Sizes {
    pub fn add(&mut self, lines: &[PlacedLine<'_>]) {
        for line in lines {
            *self.num_letters.entry(tenths(line.size)).or_default() += line.text.len();
        }
    }

    /// The size of most letters.
    fn usual(&self) -> Option<f64> {
        let most = self.num_letters.iter().max_by_key(|(_, count)| **count)?;
        Some(f64::from(*most.0) / 10.0)
    }

    /// Lines of a page in larger letters, if they are few and short enough to be headings.
    pub fn headings(&self, text: &str, lines: &[PlacedLine<'_>]) -> Vec<Heading> {
        const MAX_LETTERS: usize = 160;
        const MAX_LINES: usize = 4;
        let Some(usual) = self.usual() else {
            return Vec::new();
        };
        let is_large = |line: &PlacedLine<'_>| line.size > usual * HEADING_RATIO;
        let num_letters: usize = lines.iter().map(|line| line.text.len()).sum();
        let num_large: usize = lines
            .iter()
            .filter(|it| is_large(it))
            .map(|it| it.text.len())
            .sum();
        // A page of large letters is a title page or a poster; which of its lines stand over others is not clear.
        if num_large * 3 > num_letters {
            return Vec::new();
        }
        let mut headings = Vec::new();
        let mut rest = lines;
        while let Some(first) = rest.first() {
            let same = |line: &&PlacedLine<'_>| (line.size - first.size).abs() < 0.2;
            let num_lines = match is_large(first) {
                // One that goes on over a line end.
                true => {
                    1 + rest[1..]
                        .iter()
                        .take_while(|line| same(line) && !line.begins_paragraph)
                        .count()
                }
                false => 1,
            };
            let (block, after) = rest.split_at(num_lines);
            rest = after;
            let title = title(text, block);
            let is_heading = is_large(first)
                && num_lines <= MAX_LINES
                && title.len() <= MAX_LETTERS
                && title.chars().filter(|c| c.is_alphabetic()).count() > 2
                && !title.ends_with([',', ';'])
                // A large first letter of a paragraph is part of it.
                && after.first().is_some_and(|next| next.begins_paragraph || !is_large(next));
            if is_heading {
                headings.push(Heading {
                    level: level(first.size / usual),
                    title,
                    offset: first.offset,
                });
            }
        }
        headings
    }
}

fn level(ratio: f64) -> u8 {
    match ratio {
        1.6.. => 1,
        1.3.. => 2,
        _ => 3,
    }
}

fn tenths(size: f64) -> u32 {
    (size * 10.0).round().clamp(0.0, 100_000.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed<'t>(text: &'t str, sizes: &[f64]) -> Vec<PlacedLine<'t>> {
        let mut offset = 0;
        let place = |(line, size): (&'t str, &f64)| {
            let placed = PlacedLine {
                text: line,
                offset,
                size: *size,
                begins_paragraph: false,
            };
            offset += line.len() + 1;
            placed
        };
        text.lines().zip(sizes).map(place).collect()
    }

    const PAGE: &str = "2.1 The tower and\nits keeper\n\
        It was built of granite that came by barge, and it has\n\
        two hundred steps, which the keeper climbs each night\n\
        to wind up the clockwork, in winter and in summer.";
    const SIZES: [f64; 5] = [14.0, 14.0, 10.0, 10.0, 10.0];

    #[test]
    fn a_bookmark_is_found_over_line_ends_and_without_its_number() {
        let bookmark = |title: &str| Bookmark {
            level: 2,
            title: title.to_owned(),
        };
        let wanted = [bookmark("The tower and its keeper"), bookmark("Absent")];
        let found = of_bookmarks(&wanted, PAGE, &placed(PAGE, &SIZES));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].title, "2.1 The tower and its keeper");
        assert_eq!((found[0].level, found[0].offset), (2, 0));
    }

    #[test]
    fn larger_lines_are_headings_unless_the_page_is_full_of_them() {
        let page = placed(PAGE, &SIZES);
        let mut sizes = Sizes::default();
        sizes.add(&page);
        let found = sizes.headings(PAGE, &page);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].title, "2.1 The tower and its keeper");
        assert_eq!(found[0].level, 2);
        assert!(sizes.headings(PAGE, &page[..2]).is_empty());
    }
}
