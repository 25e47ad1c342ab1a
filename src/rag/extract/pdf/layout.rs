//! Glyphs at their places to lines of text. Keeps the order in which the page draws, which for text made by
//! programs is the order of reading but for columns that are drawn across (`columns`); decides where words, lines and
//! paragraphs end.

use unicode_normalization::char::compose;

use super::clean;
use super::columns::in_order_of_reading;
use super::page::Glyph;

/// A line of the page.
#[derive(Debug, Clone, PartialEq)]
pub struct TextLine {
    pub text: String,
    /// The height of its font on the page.
    pub size: f64,
    /// An empty line stands before it.
    pub begins_paragraph: bool,
}

/// The page's text, line by line.
pub fn text_lines(glyphs: Vec<Glyph>) -> Vec<TextLine> {
    let lines = in_order_of_reading(lines(glyphs));
    let leading = usual_leading(&lines);
    let above = std::iter::once(None).chain(lines.iter().map(Some));
    let with_above = lines.iter().zip(above);
    with_above
        .map(|(line, above)| TextLine {
            text: line.text(),
            size: line.size,
            begins_paragraph: above.is_none_or(|above| is_new_paragraph(above, line, leading)),
        })
        .collect()
}

/// Gaps in units of the font size. A space is a quarter to a third of it, kerning below a tenth.
const WORD_GAP: f64 = 0.15;
/// Between columns.
const WIDE_GAP: f64 = 1.0;
/// Letters that touch overlap by less.
const OVERLAP: f64 = 0.15;
/// A step back that is more than an accent set over its letter.
const BACK_STEP: f64 = 1.5;
/// Superscripts and subscripts leave the baseline by less.
const LINE_STEP: f64 = 0.45;

#[derive(Clone)]
pub struct Line {
    pub origin: (f64, f64),
    /// Of the last letter.
    pub end: (f64, f64),
    pub direction: (f64, f64),
    pub size: f64,
    /// Words' parts in drawing order; a space is a piece of its own.
    pieces: Vec<String>,
    /// Wide ones, as between columns or cells.
    pub gaps: Vec<Gap>,
    /// Letters of a right-to-left script were drawn right to left, in the order of reading.
    is_logical: bool,
}

#[derive(Clone)]
pub struct Gap {
    /// The first behind it.
    piece: usize,
    /// The end of what stands before it.
    end: (f64, f64),
    /// The origin of what stands behind it.
    pub start: (f64, f64),
}

enum Step {
    Same,
    Word,
    Line,
    /// Over the glyph before: an accent and its letter.
    Over,
    /// The same glyph again, to look bold.
    Repeated,
    /// To the left, as right-to-left scripts are read.
    Leftwards {
        is_word: bool,
    },
}

fn lines(glyphs: Vec<Glyph>) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut last: Option<Glyph> = None;
    let mut after_space = false;
    for glyph in glyphs {
        let step = match (lines.last(), &last) {
            (Some(line), Some(last)) => step(line, last, &glyph),
            _ => Step::Line,
        };
        if matches!(step, Step::Repeated) {
            continue;
        }
        let is_blank = glyph.text.chars().all(char::is_whitespace);
        if is_blank && !glyph.text.is_empty() {
            after_space = true;
        }
        match (&step, lines.last_mut()) {
            (Step::Line, _) | (_, None) => {
                // Blank glyphs begin no line.
                if is_blank {
                    continue;
                }
                after_space = false;
                lines.push(Line {
                    origin: glyph.origin,
                    end: glyph.end,
                    direction: glyph.direction,
                    size: glyph.size,
                    pieces: vec![glyph.text.clone()],
                    gaps: Vec::new(),
                    is_logical: false,
                });
            }
            (step, Some(line)) => {
                let is_word = matches!(step, Step::Word | Step::Leftwards { is_word: true });
                if (is_word || after_space) && !is_blank {
                    line.pieces.push(" ".to_owned());
                }
                if !is_blank && line.space_before(&glyph) > WIDE_GAP {
                    line.gaps.push(Gap {
                        piece: line.pieces.len(),
                        end: line.end,
                        start: glyph.origin,
                    });
                }
                if !is_blank {
                    line.end = glyph.end;
                }
                line.is_logical |= matches!(step, Step::Leftwards { .. });
                line.size = line.size.max(glyph.size);
                let accented = match (step, line.pieces.last()) {
                    (Step::Over, Some(before)) if !after_space => accented(before, &glyph.text),
                    _ => None,
                };
                if let Some(accented) = accented {
                    line.pieces.pop();
                    line.pieces.push(accented);
                } else if !is_blank {
                    line.pieces.push(glyph.text.clone());
                }
            }
        }
        after_space &= is_blank;
        last = Some(glyph);
    }
    lines
}

fn step(line: &Line, last: &Glyph, next: &Glyph) -> Step {
    let size = last.size.max(next.size);
    let (ux, uy) = line.direction;
    if ux * next.direction.0 + uy * next.direction.1 < 0.95 {
        return Step::Line;
    }
    let along =
        |from: (f64, f64), to: (f64, f64)| ((to.0 - from.0) * ux + (to.1 - from.1) * uy) / size;
    // Measured from the line's baseline: a subscript may follow a superscript.
    if (line.distance(next.origin) / line.size.max(size)).abs() > LINE_STEP {
        return Step::Line;
    }
    if last.text == next.text
        && along(last.origin, next.origin).abs() < 0.1
        && (line.distance(last.origin) - line.distance(next.origin)).abs() < 0.1 * size
        && !next.text.is_empty()
    {
        return Step::Repeated;
    }
    let gap = along(last.end, next.origin);
    let reads_leftwards = |glyph: &Glyph| glyph.text.chars().any(is_right_to_left);
    if gap < -0.3 && (reads_leftwards(last) || reads_leftwards(next)) {
        let gap = along(next.end, last.origin);
        if (-0.5..BACK_STEP * 2.0).contains(&gap) {
            return Step::Leftwards {
                is_word: gap > WORD_GAP,
            };
        }
    }
    if gap < -BACK_STEP {
        Step::Line
    } else if gap < -OVERLAP {
        Step::Over
    } else if gap > WORD_GAP {
        Step::Word
    } else {
        Step::Same
    }
}

/// A letter with the accent that is drawn over it, before or after it, if there is such a letter.
fn accented(before: &str, over: &str) -> Option<String> {
    let (mark, letter) = match (combining(before), combining(over)) {
        (Some(mark), None) => (mark, over),
        (None, Some(mark)) => (mark, before),
        _ => return None,
    };
    let letter = match letter {
        "ı" => 'i',
        "ȷ" => 'j',
        _ => letter
            .chars()
            .next()
            .filter(|_| letter.chars().count() == 1)?,
    };
    compose(letter, mark).map(String::from)
}

/// The combining mark for an accent that stands alone.
fn combining(accent: &str) -> Option<char> {
    Some(match accent {
        "`" | "ˋ" => '\u{300}',
        "´" | "ˊ" => '\u{301}',
        "^" | "ˆ" => '\u{302}',
        "~" | "˜" => '\u{303}',
        "¯" | "ˉ" => '\u{304}',
        "˘" => '\u{306}',
        "˙" => '\u{307}',
        "¨" => '\u{308}',
        "˚" => '\u{30a}',
        "˝" => '\u{30b}',
        "ˇ" => '\u{30c}',
        "¸" => '\u{327}',
        "˛" => '\u{328}',
        _ => return None,
    })
}

impl Line {
    /// What stands before a gap, and what behind it.
    pub fn split(&self, gap: usize) -> (Self, Self) {
        let at = &self.gaps[gap];
        let mut before = Self {
            end: at.end,
            pieces: self.pieces[..at.piece].to_vec(),
            gaps: self.gaps[..gap].to_vec(),
            ..self.clone()
        };
        while before.pieces.last().is_some_and(|piece| piece == " ") {
            before.pieces.pop();
        }
        let later = self.gaps[gap + 1..].iter().map(|later| Gap {
            piece: later.piece - at.piece,
            ..later.clone()
        });
        let after = Self {
            origin: at.start,
            pieces: self.pieces[at.piece..].to_vec(),
            gaps: later.collect(),
            ..self.clone()
        };
        (before, after)
    }

    /// In units of the font size.
    fn space_before(&self, next: &Glyph) -> f64 {
        let (ux, uy) = self.direction;
        let (x, y) = (next.origin.0 - self.end.0, next.origin.1 - self.end.1);
        (x * ux + y * uy) / self.size.max(next.size)
    }

    pub fn text(&self) -> String {
        let num_leftwards = self
            .pieces
            .iter()
            .filter(|piece| piece.chars().any(is_right_to_left))
            .count();
        if num_leftwards == 0 || self.is_logical {
            return self.pieces.concat();
        }
        let num_rightwards = self
            .pieces
            .iter()
            .filter(|piece| is_left_to_right(piece))
            .count();
        in_reading_order(&self.pieces, num_leftwards >= num_rightwards)
    }

    /// How far below this line's baseline a place is, in points of the page; negative above.
    pub fn distance(&self, place: (f64, f64)) -> f64 {
        let (ux, uy) = self.direction;
        (place.0 - self.origin.0) * uy - (place.1 - self.origin.1) * ux
    }
}

/// Pieces drawn from left to right, put into the order in which they are read.
fn in_reading_order(pieces: &[String], begins_right: bool) -> String {
    let against = |piece: &String| {
        if begins_right {
            is_left_to_right(piece)
        } else {
            piece.chars().any(is_right_to_left)
        }
    };
    let mut runs: Vec<Vec<&String>> = Vec::new();
    let mut is_open = false;
    for (index, piece) in pieces.iter().enumerate() {
        let joins = is_open && !against(piece) && {
            // What is neutral stays inside a run that goes on behind it.
            let next_strong = pieces[index..].iter().find(|piece| is_strong(piece));
            !is_strong(piece) && next_strong.is_some_and(against)
        };
        if is_open && (against(piece) || joins) {
            runs.last_mut().expect("a run is open").push(piece);
        } else {
            is_open = against(piece);
            runs.push(vec![piece]);
        }
    }
    let mut out = String::new();
    if begins_right {
        runs.reverse();
        runs.iter().flatten().for_each(|piece| out.push_str(piece));
    } else {
        for run in runs {
            let is_leftwards = run.iter().any(|piece| piece.chars().any(is_right_to_left));
            if is_leftwards {
                run.iter().rev().for_each(|piece| out.push_str(piece));
            } else {
                run.iter().for_each(|piece| out.push_str(piece));
            }
        }
    }
    out
}

fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}')
        && !is_digit(c)
}

fn is_digit(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '\u{660}'..='\u{669}' | '\u{6f0}'..='\u{6f9}')
}

fn is_left_to_right(piece: &str) -> bool {
    piece
        .chars()
        .any(|c| is_digit(c) || (c.is_alphabetic() && !is_right_to_left(c)))
}

fn is_strong(piece: &str) -> bool {
    is_left_to_right(piece) || piece.chars().any(is_right_to_left)
}

/// The median distance between lines that follow each other downwards.
fn usual_leading(lines: &[Line]) -> f64 {
    let mut distances: Vec<f64> = lines
        .windows(2)
        .map(|pair| pair[0].distance(pair[1].origin) / pair[0].size.max(pair[1].size))
        .filter(|distance| (0.5..3.0).contains(distance))
        .collect();
    distances.sort_by(f64::total_cmp);
    distances.get(distances.len() / 2).copied().unwrap_or(1.2)
}

/// `leading` is in units of the font size.
fn is_new_paragraph(above: &Line, below: &Line, leading: f64) -> bool {
    let size = above.size.max(below.size);
    let distance = above.distance(below.origin) / size;
    let is_resized = size > 1.15 * above.size.min(below.size);
    if distance < -LINE_STEP {
        // The next column, into which a sentence may go on.
        return is_resized || !clean::goes_on(&above.text(), &below.text());
    }
    distance > leading * 1.35 || (is_resized && distance > LINE_STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(glyphs: Vec<Glyph>) -> String {
        let mut text = String::new();
        for line in text_lines(glyphs) {
            if !text.is_empty() {
                text.push_str(if line.begins_paragraph { "\n\n" } else { "\n" });
            }
            text.push_str(&line.text);
        }
        text
    }

    /// Letters one unit wide and high, at the given places.
    fn drawn(words: &[(&str, f64, f64)]) -> Vec<Glyph> {
        let mut glyphs = Vec::new();
        for (word, x, y) in words {
            for (index, c) in word.chars().enumerate() {
                let x = x + index as f64;
                glyphs.push(Glyph {
                    text: c.to_string(),
                    origin: (x, *y),
                    end: (x + 1.0, *y),
                    direction: (1.0, 0.0),
                    size: 1.0,
                });
            }
        }
        glyphs
    }

    #[test]
    fn gaps_decide_on_words_lines_and_paragraphs() {
        let page = drawn(&[
            ("ab", 0.0, 9.0),
            ("cd", 2.05, 9.0),
            ("ef", 4.4, 9.0),
            ("next", 0.0, 7.8),
            ("line", 0.0, 6.6),
            ("new", 0.0, 4.0),
        ]);
        assert_eq!(text(page), "abcd ef\nnext\nline\n\nnew");
    }

    #[test]
    fn columns_drawn_across_are_read_one_behind_the_other_and_tables_are_not() {
        let left = [
            "The keeper of the lighthouse",
            "winds the clockwork at dusk, and",
            "trims the lamp once in the hours",
            "before dawn. In the winter months",
            "he is relieved by a second man",
            "who lives on the island and has",
            "a boat of his",
        ];
        let right = [
            "own, which is needed when the",
            "ferry does not run. Provisions",
            "come from the town by barge and",
            "are kept in the old storehouse",
            "that was built of granite in the",
            "same year as the tower itself.",
        ];
        let row = |at: usize| -10.0 - 1.2 * at as f64;
        let mut page = drawn(&[(
            "The lighthouse, told in two columns of running text",
            0.0,
            0.0,
        )]);
        for (at, line) in left.iter().enumerate() {
            page.extend(drawn(&[(*line, 0.0, row(at))]));
            if let Some(right) = right.get(at) {
                page.extend(drawn(&[(right, 38.0, row(at))]));
            }
        }
        page.extend(drawn(&[("An end.", 0.0, -25.0)]));
        let read = text(page);
        let in_columns = format!("{}\n{}", left.join("\n"), right.join("\n"));
        assert!(read.contains(&in_columns), "{read}");
        assert!(read.ends_with("\n\nAn end."), "{read}");

        let rows = [
            "Adult",
            "Child under 12, with an adult",
            "Dog",
            "Bicycle",
            "Trailer",
            "Lorry",
            "Bus",
        ];
        let table: Vec<_> = (0..rows.len())
            .flat_map(|at| {
                [
                    (rows[at], 0.0, row(at)),
                    ("12.50 and more in summer", 38.0, row(at)),
                ]
            })
            .collect();
        let read = text(drawn(&table));
        assert!(
            read.starts_with("Adult 12.50 and more in summer\n"),
            "{read}"
        );
    }

    #[test]
    fn a_sentence_goes_on_in_the_next_column() {
        let page = |first: &str| {
            drawn(&[
                (first, 0.0, 9.0),
                ("the exam-", 0.0, 7.8),
                ("ple goes on", 30.0, 9.0),
            ])
        };
        assert_eq!(text(page("see")), "see\nthe exam-\nple goes on");
        let ended = drawn(&[("The end.", 0.0, 7.8), ("next", 30.0, 9.0)]);
        assert_eq!(text(ended), "The end.\n\nnext");
    }

    #[test]
    fn drawn_spaces_and_superscripts_stay_in_the_line() {
        let page = drawn(&[
            ("a ", 0.0, 0.0),
            ("b", 2.0, 0.0),
            ("2", 3.0, 0.4),
            ("c", 4.0, 0.0),
        ]);
        assert_eq!(text(page), "a b2c");
    }

    #[test]
    fn a_letter_drawn_twice_is_one_letter() {
        let page = drawn(&[
            ("a", 0.0, 0.0),
            ("a", 0.03, 0.0),
            ("l", 1.0, 0.0),
            ("l", 2.0, 0.0),
        ]);
        assert_eq!(text(page), "all");
    }

    #[test]
    fn an_accent_drawn_over_a_letter_is_one_with_it() {
        let over = drawn(&[
            ("n", 0.0, 0.0),
            ("´", 1.0, 0.1),
            ("n", 1.0, 0.0),
            ("s", 2.0, 0.0),
        ]);
        assert_eq!(text(over), "nńs");
        let after = drawn(&[("c", 0.0, 0.0), ("¸", 0.2, 0.0), ("a", 1.2, 0.0)]);
        assert_eq!(text(after), "ça");
        let beside = drawn(&[("it´s", 0.0, 0.0)]);
        assert_eq!(text(beside), "it´s");
    }

    #[test]
    fn right_to_left_scripts_come_out_in_the_order_of_reading() {
        let visual = drawn(&[("םולש", 0.0, 0.0), ("12", 5.0, 0.0), ("אב", 8.0, 0.0)]);
        assert_eq!(text(visual), "בא 12 שלום");
        let logical = drawn(&[("ש", 9.0, 0.0), ("ל", 8.0, 0.0), ("ם", 7.0, 0.0)]);
        assert_eq!(text(logical), "שלם");
        let mixed = drawn(&[("see", 0.0, 0.0), ("בא", 4.0, 0.0), ("here", 7.0, 0.0)]);
        assert_eq!(text(mixed), "see אב here");
    }
}
