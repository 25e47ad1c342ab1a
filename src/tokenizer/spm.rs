//! SentencePiece's byte pair encoding: neighbours whose union is a token are merged, best score first; characters that
//! are no token become byte tokens. Must not merge text into a token that steers the model.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::TokenizerError;
use super::vocabulary::{TokenKind, Vocabulary, byte_of_spelling};

/// How SentencePiece spells a space.
pub(super) const SPACE: char = '▁';

#[derive(Debug)]
pub(super) struct Spm {
    scores: Vec<f32>,
    byte_tokens: [Option<u32>; 256],
    unknown: Option<u32>,
    longest_token: usize,
    pub adds_space_prefix: bool,
}

impl Spm {
    pub fn new(
        vocabulary: &Vocabulary,
        scores: Vec<f32>,
        unknown: Option<u32>,
        adds_space_prefix: bool,
    ) -> Result<Self, TokenizerError> {
        let mut byte_tokens = [None; 256];
        let mut longest_token = 0;
        for (text, id) in vocabulary.iter() {
            longest_token = longest_token.max(text.len());
            if let (TokenKind::Byte, Some(byte)) = (vocabulary.kind(id), byte_of_spelling(text)) {
                byte_tokens[usize::from(byte)] = Some(id);
            }
        }
        let missing = byte_tokens.iter().position(Option::is_none);
        if let (Some(byte), None) = (missing, unknown) {
            return Err(TokenizerError::NoByteToken { byte: byte as u8 });
        }
        Ok(Self {
            scores,
            byte_tokens,
            unknown,
            longest_token,
            adds_space_prefix,
        })
    }

    /// `text` is ordinary text; `after_special` says that nothing or a special token stands before it.
    pub fn encode(
        &self,
        vocabulary: &Vocabulary,
        text: &str,
        after_special: bool,
        ids: &mut Vec<u32>,
    ) {
        let mut spelled = String::with_capacity(text.len() + text.len() / 2);
        if self.adds_space_prefix && after_special {
            spelled.push(SPACE);
        }
        spelled.extend(
            text.chars()
                .map(|char| if char == ' ' { SPACE } else { char }),
        );
        let mut merger = Merger {
            spm: self,
            vocabulary,
            text: &spelled,
            parts: Vec::new(),
            queue: BinaryHeap::new(),
        };
        merger.run();
        for part in merger.parts.iter().filter(|part| part.len > 0) {
            let piece = &spelled[part.start..part.start + part.len];
            match vocabulary.text_id(piece) {
                Some(id) => ids.push(id),
                None => ids.extend(
                    piece
                        .bytes()
                        .filter_map(|byte| self.byte_tokens[usize::from(byte)].or(self.unknown)),
                ),
            }
        }
    }
}

struct Merger<'a> {
    spm: &'a Spm,
    vocabulary: &'a Vocabulary,
    text: &'a str,
    parts: Vec<Part>,
    queue: BinaryHeap<Candidate>,
}

/// A piece of the text in a doubly linked list; one of length 0 was merged into its left neighbour.
struct Part {
    start: usize,
    len: usize,
    previous: usize,
    next: usize,
}

const NONE: usize = usize::MAX;

struct Candidate {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl Ord for Candidate {
    /// Greater is merged earlier: higher score first, then from left to right.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score
            .total_cmp(&other.score)
            .then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

impl Merger<'_> {
    fn run(&mut self) {
        let starts = self.text.char_indices().enumerate();
        self.parts.extend(starts.map(|(i, (start, char))| Part {
            start,
            len: char.len_utf8(),
            previous: i.wrapping_sub(1),
            next: i + 1,
        }));
        if let Some(last) = self.parts.last_mut() {
            last.next = NONE;
        }
        for right in 1..self.parts.len() {
            self.consider(right - 1, right);
        }
        while let Some(Candidate {
            left, right, len, ..
        }) = self.queue.pop()
        {
            let (left_len, right_len) = (self.parts[left].len, self.parts[right].len);
            if left_len == 0 || right_len == 0 || left_len + right_len != len {
                continue;
            }
            let next = self.parts[right].next;
            self.parts[left].len = len;
            self.parts[left].next = next;
            self.parts[right].len = 0;
            self.consider(self.parts[left].previous, left);
            if next != NONE {
                self.parts[next].previous = left;
                self.consider(left, next);
            }
        }
    }

    fn consider(&mut self, left: usize, right: usize) {
        if left == NONE {
            return;
        }
        let len = self.parts[left].len + self.parts[right].len;
        if len > self.spm.longest_token {
            return;
        }
        let start = self.parts[left].start;
        if let Some(id) = self.vocabulary.text_id(&self.text[start..start + len]) {
            self.queue.push(Candidate {
                score: self.spm.scores[id as usize],
                left,
                right,
                len,
            });
        }
    }
}
