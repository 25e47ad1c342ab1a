//! Turns citation markers such as `[2]` in a streamed answer into byte spans of the document. A number that stands for
//! no passage never reaches the reader.

use std::collections::HashSet;
use std::ops::Range;

use crate::rag::sentence::{content_words, sentences};

/// A marker whose number stands for a passage. Whether its citation holds is for the caller to say: only then are the
/// blanks and the text part of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// Number of the passage, from 1.
    pub number: usize,
    /// Blanks before it that are dropped with it.
    pub blanks: String,
    /// What stands for it, `[2]`; nothing in JSON, where the text stays as it is and follows as `Text`.
    pub text: String,
}

/// A piece of the cleaned answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CitedPiece {
    Text(String),
    Marker(Marker),
}

/// Reads an answer as it streams, passes text on and checks markers against the numbers of the passages.
pub struct MarkerReader {
    numbers: HashSet<usize>,
    /// Where the answer is JSON, which is passed on as it is: markers stand in its strings only.
    json: Option<JsonPlace>,
    /// An opening bracket and what may still become a marker.
    held: String,
    /// Blanks that are dropped when an invalid marker follows them.
    blanks: String,
}

impl MarkerReader {
    pub fn new(numbers: impl IntoIterator<Item = usize>) -> Self {
        Self {
            numbers: numbers.into_iter().collect(),
            json: None,
            held: String::new(),
            blanks: String::new(),
        }
    }

    /// For an answer in JSON: nothing in it is changed, an invented number included.
    pub fn of_json(numbers: impl IntoIterator<Item = usize>) -> Self {
        Self {
            json: Some(JsonPlace::default()),
            ..Self::new(numbers)
        }
    }

    /// For what the same answer says elsewhere, from its beginning.
    pub fn afresh(&self) -> Self {
        Self {
            json: self.json.as_ref().map(|_| JsonPlace::default()),
            ..Self::new(self.numbers.iter().copied())
        }
    }

    pub fn push(&mut self, text: &str) -> Vec<CitedPiece> {
        let mut pieces = Pieces::default();
        for character in text.chars() {
            if let Some(json) = &mut self.json {
                json.pass(character);
            }
            self.take(character, &mut pieces);
        }
        pieces.list
    }

    pub fn finish(&mut self) -> Vec<CitedPiece> {
        let mut pieces = Pieces::default();
        self.release(&mut pieces);
        pieces.list
    }

    fn take(&mut self, character: char, pieces: &mut Pieces) {
        if self.held.is_empty() {
            match character {
                '[' if self.may_be_cited() => self.held.push('['),
                ' ' => self.blanks.push(' '),
                other => {
                    self.emit_blanks(pieces);
                    self.emit(other, pieces);
                }
            }
            return;
        }
        if character == ']' {
            let numbers = marker_numbers(&self.held[1..]);
            match numbers {
                Some(numbers) => self.resolve(&numbers, pieces),
                None => {
                    self.release(pieces);
                    self.emit(']', pieces);
                }
            }
        } else if character != '['
            && self.held.len() < MAX_MARKER_BYTES
            && may_be_in_marker(character)
        {
            self.held.push(character);
        } else {
            self.release(pieces);
            self.take(character, pieces);
        }
    }

    fn may_be_cited(&self) -> bool {
        self.json.as_ref().is_none_or(|json| json.is_in_string)
    }

    fn resolve(&mut self, numbers: &[usize], pieces: &mut Pieces) {
        let mut seen = HashSet::new();
        let valid = numbers
            .iter()
            .copied()
            .filter(|number| self.numbers.contains(number));
        let valid: Vec<usize> = valid.filter(|number| seen.insert(*number)).collect();
        let marker = |number, blanks, text| {
            CitedPiece::Marker(Marker {
                number,
                blanks,
                text,
            })
        };
        if self.json.is_some() {
            self.emit_blanks(pieces);
            let markers = valid.into_iter();
            let markers = markers.map(|number| marker(number, String::new(), String::new()));
            pieces.list.extend(markers);
            self.release(pieces);
            self.emit(']', pieces);
            return;
        }
        self.held.clear();
        if valid.is_empty() {
            self.blanks.clear();
        }
        for number in valid {
            let blanks = std::mem::take(&mut self.blanks);
            pieces
                .list
                .push(marker(number, blanks, format!("[{number}]")));
        }
    }

    fn release(&mut self, pieces: &mut Pieces) {
        self.emit_blanks(pieces);
        for character in std::mem::take(&mut self.held).chars() {
            self.emit(character, pieces);
        }
    }

    fn emit_blanks(&mut self, pieces: &mut Pieces) {
        for blank in std::mem::take(&mut self.blanks).chars() {
            self.emit(blank, pieces);
        }
    }

    fn emit(&self, character: char, pieces: &mut Pieces) {
        if let Some(CitedPiece::Text(text)) = pieces.list.last_mut() {
            text.push(character);
        } else {
            pieces.list.push(CitedPiece::Text(character.into()));
        }
    }
}

/// Where in a JSON text a reader is.
#[derive(Debug, Default)]
struct JsonPlace {
    is_in_string: bool,
    is_escaped: bool,
}

impl JsonPlace {
    fn pass(&mut self, character: char) {
        let is_escaped = std::mem::take(&mut self.is_escaped);
        match character {
            _ if is_escaped => {}
            '"' => self.is_in_string = !self.is_in_string,
            '\\' => self.is_escaped = self.is_in_string,
            _ => {}
        }
    }
}

/// Longest marker that is recognised, such as `[sources 1, 2 and 13]`.
const MAX_MARKER_BYTES: usize = 40;

#[derive(Default)]
struct Pieces {
    list: Vec<CitedPiece>,
}

fn may_be_in_marker(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, ' ' | ',' | ';' | '#' | ':')
}

/// The numbers in `1`, `1, 2`, `source 1`, `Sources 1 and 2`; `None` when it is not a marker.
fn marker_numbers(inside: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for word in inside
        .split([' ', ',', ';', '#', ':'])
        .filter(|word| !word.is_empty())
    {
        if word.len() <= 3 && word.bytes().all(|byte| byte.is_ascii_digit()) {
            numbers.push(word.parse().ok()?);
        } else if !["source", "sources", "and", "doc", "document", "passage"]
            .contains(&word.to_ascii_lowercase().as_str())
        {
            return None;
        }
    }
    (!numbers.is_empty()).then_some(numbers)
}

/// The sentences of `passage` that support `claim` best, as a byte range of `passage`: the sentence that shares most
/// content words with the claim, with a neighbour when that adds words of the claim. The whole passage when no
/// sentence shares any.
pub fn supporting_span(passage: &str, claim: &str) -> Range<usize> {
    let wanted: HashSet<String> = content_words(claim).collect();
    let spans = sentences(passage);
    let shared = |span: &Range<usize>| -> HashSet<String> {
        content_words(&passage[span.clone()])
            .filter(|word| wanted.contains(word))
            .collect()
    };
    // Of equals a sentence goes before a heading, and the first before later ones, so that the result is stable.
    let is_sentence =
        |span: &Range<usize>| passage[span.clone()].ends_with(['.', '!', '?', '"', ')']);
    let best = spans
        .iter()
        .enumerate()
        .map(|(at, span)| (at, shared(span)))
        .max_by_key(|(at, words)| {
            (
                words.len(),
                is_sentence(&spans[*at]),
                std::cmp::Reverse(*at),
            )
        });
    let Some((at, words)) = best.filter(|(_, words)| !words.is_empty()) else {
        return 0..passage.len();
    };
    let neighbours = [
        at.checked_sub(1),
        Some(at + 1).filter(|next| *next < spans.len()),
    ];
    let gains = neighbours
        .into_iter()
        .flatten()
        .map(|next| (next, shared(&spans[next]).difference(&words).count()));
    match gains
        .max_by_key(|(_, gain)| *gain)
        .filter(|(_, gain)| *gain >= 2)
    {
        Some((next, _)) => spans[at.min(next)].start..spans[at.max(next)].end,
        None => spans[at].clone(),
    }
}

/// The part of `answer` that a marker at its end speaks for: back to the end of the sentence before.
pub fn claim_before(answer: &str) -> &str {
    let mut trimmed = answer.trim_end();
    while let Some(inside) = trimmed.strip_suffix(']') {
        let head = inside.trim_end_matches(|c: char| c.is_ascii_digit());
        match head.strip_suffix('[').filter(|_| head.len() < inside.len()) {
            Some(before) => trimmed = before.trim_end(),
            None => break,
        }
    }
    let body = trimmed.trim_end_matches(['.', '!', '?', ':']);
    match sentences(body).last() {
        Some(last) => &answer[last.start..trimmed.len()],
        None => trimmed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str], num_passages: usize) -> (String, Vec<(usize, usize)>) {
        read_by(MarkerReader::new(1..=num_passages), pieces)
    }

    fn read_by(mut reader: MarkerReader, pieces: &[&str]) -> (String, Vec<(usize, usize)>) {
        let mut all: Vec<CitedPiece> = pieces.iter().flat_map(|piece| reader.push(piece)).collect();
        all.extend(reader.finish());
        let mut text = String::new();
        let mut markers = Vec::new();
        for piece in all {
            match piece {
                CitedPiece::Text(piece) => text.push_str(&piece),
                CitedPiece::Marker(marker) => {
                    text.push_str(&marker.blanks);
                    markers.push((marker.number, text.chars().count()));
                    text.push_str(&marker.text);
                }
            }
        }
        (text, markers)
    }

    #[test]
    fn a_marker_is_found_wherever_the_stream_cuts_it() {
        let answer = "Über uns [2]. Done [1, 3] and [source 1].";
        let expected = read(&[answer], 3);
        assert_eq!(expected.0, "Über uns [2]. Done [1][3] and [1].");
        assert_eq!(expected.1, vec![(2, 9), (1, 19), (3, 22), (1, 30)]);
        for cut in (1..answer.len()).filter(|at| answer.is_char_boundary(*at)) {
            assert_eq!(
                read(&[&answer[..cut], &answer[cut..]], 3),
                expected,
                "cut at {cut}"
            );
        }
        let index = expected.0.char_indices().nth(19).unwrap().0;
        assert!(expected.0[index..].starts_with("[1]"));
    }

    #[test]
    fn json_stays_as_it_is_and_is_cited_in_its_strings_only() {
        let answer = r#"{"a[1]": "é [1, 9] \"[2]", "numbers": [1], "b": "\\", "c": [2], "d": "[source 1", "e": " [7]"}"#;
        let (text, markers) = read_by(MarkerReader::of_json(1..=2), &[answer]);
        assert_eq!(text, answer);
        let found: Vec<(usize, String)> = markers
            .iter()
            .map(|(number, index)| (*number, answer.chars().skip(*index).take(3).collect()))
            .collect();
        let expected = [(1, "[1]"), (1, "[1,"), (2, "[2]")];
        assert_eq!(found, expected.map(|(number, at)| (number, at.to_owned())));
        for cut in (1..answer.len()).filter(|at| answer.is_char_boundary(*at)) {
            let pieces = [&answer[..cut], &answer[cut..]];
            let read = read_by(MarkerReader::of_json(1..=2), &pieces);
            assert_eq!(read, (answer.to_owned(), markers.clone()), "cut at {cut}");
        }
    }

    #[test]
    fn an_invented_number_never_reaches_the_reader() {
        assert_eq!(
            read(&["True [7]. Half [1][9]."], 2),
            ("True. Half [1].".into(), vec![(1, 16 - 5)])
        );
        assert_eq!(read(&["None [0]"], 0), ("None".into(), vec![]));
    }

    #[test]
    fn brackets_that_are_no_markers_stay() {
        let text = "see [note], [2019], [[x] and an open [";
        assert_eq!(read(&[text], 5), (text.into(), vec![]));
    }

    #[test]
    fn the_sentence_that_shares_the_words_is_quoted() {
        let passage = "The moon is far away. The budget for 2024 is four million euros. It was approved in May.";
        let span = supporting_span(passage, "The approved budget is four million");
        assert_eq!(&passage[span], "The budget for 2024 is four million euros.");
        assert_eq!(supporting_span(passage, "zzz"), 0..passage.len());
        let titled = "# The moon\n\nThe moon is far away.";
        assert_eq!(
            &titled[supporting_span(titled, "A moon")],
            "The moon is far away."
        );
    }

    #[test]
    fn a_marker_speaks_for_the_sentence_before_it() {
        assert_eq!(claim_before("First. The second one [1]"), "The second one");
        assert_eq!(claim_before("First. The second one. "), "The second one.");
        assert_eq!(claim_before("Only"), "Only");
        assert_eq!(claim_before("First. It was 500 [1][12] "), "It was 500");
    }
}
