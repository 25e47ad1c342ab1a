//! Text from tokens that come one at a time. Must never show half a character, a part of a stop string, or text that
//! whole decoding would not have.

use super::Tokenizer;

/// Decodes one answer.
#[derive(Debug)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    stops: Vec<String>,
    /// Control tokens that are part of the text, with their spelling.
    shown: Vec<(u32, &'static str)>,
    /// Bytes that begin a character.
    partial: Vec<u8>,
    /// Text that is not shown yet, because a stop string may begin in it.
    held: String,
    is_stopped: bool,
}

/// What a token made ready to show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    pub text: String,
    /// Which of the stop strings was met. Nothing comes after it.
    pub stopped: Option<usize>,
}

impl StreamDecoder {
    /// Empty stop strings are never met.
    pub fn new(tokenizer: &Tokenizer, stops: Vec<String>) -> Self {
        Self {
            tokenizer: tokenizer.clone(),
            stops,
            shown: Vec::new(),
            partial: Vec::new(),
            held: String::new(),
            is_stopped: false,
        }
    }

    /// Makes these control tokens, which text does not show otherwise, part of it.
    pub fn showing(mut self, shown: Vec<(u32, &'static str)>) -> Self {
        self.shown = shown;
        self
    }

    /// Takes the next token. The first stop string to be complete counts, of those complete at once the longest; it is
    /// not part of the text.
    pub fn push(&mut self, id: u32) -> Piece {
        if self.is_stopped {
            return Piece::default();
        }
        let shown = self.shown.iter().find(|(shown, _)| *shown == id);
        let bytes = match shown {
            Some((_, spelling)) => Some(spelling.as_bytes()),
            None => self.tokenizer.token_bytes(id),
        };
        self.partial.extend_from_slice(bytes.unwrap_or_default());
        let fresh = self.take_characters();
        self.show(&fresh)
    }

    /// The text that was held back, when no more tokens come.
    pub fn finish(&mut self) -> String {
        if self.is_stopped {
            return String::new();
        }
        let rest = String::from_utf8_lossy(&std::mem::take(&mut self.partial)).into_owned();
        let mut text = self.show(&rest).text;
        self.is_stopped = true;
        text.push_str(&std::mem::take(&mut self.held));
        text
    }

    /// Moves all that is decided out of `partial`, with U+FFFD where no further byte can make it UTF-8.
    fn take_characters(&mut self) -> String {
        let mut text = String::new();
        let mut rest = self.partial.as_slice();
        loop {
            let Err(error) = std::str::from_utf8(rest) else {
                text.push_str(&String::from_utf8_lossy(rest));
                rest = &[];
                break;
            };
            let (valid, invalid) = rest.split_at(error.valid_up_to());
            text.push_str(&String::from_utf8_lossy(valid));
            match error.error_len() {
                Some(len) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &invalid[len..];
                }
                None => {
                    rest = invalid;
                    break;
                }
            }
        }
        self.partial = rest.to_vec();
        text
    }

    fn show(&mut self, fresh: &str) -> Piece {
        let num_old = self.held.len();
        self.held.push_str(fresh);
        if let Some((start, index)) = self.first_stop(num_old) {
            self.is_stopped = true;
            self.held.truncate(start);
            return Piece {
                text: std::mem::take(&mut self.held),
                stopped: Some(index),
            };
        }
        let rest = self.held.split_off(self.num_certain());
        Piece {
            text: std::mem::replace(&mut self.held, rest),
            stopped: None,
        }
    }

    /// Where the first complete stop string starts and which it is; it ends after the `num_old` bytes searched before.
    fn first_stop(&self, num_old: usize) -> Option<(usize, usize)> {
        let found = self
            .stops
            .iter()
            .enumerate()
            .filter(|(_, stop)| !stop.is_empty())
            .filter_map(|(index, stop)| {
                let mut from = (num_old + 1).saturating_sub(stop.len());
                while !self.held.is_char_boundary(from) {
                    from += 1;
                }
                let start = from + self.held[from..].find(stop.as_str())?;
                Some((start + stop.len(), start, index))
            });
        found.min().map(|(_, start, index)| (start, index))
    }

    /// How many bytes of `held` cannot belong to a stop string that is still to be completed.
    fn num_certain(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let mut start = (self.held.len() + 1)
            .saturating_sub(longest)
            .min(self.held.len());
        while start < self.held.len() {
            let may_begin =
                |stop: &String| stop.as_bytes().starts_with(&self.held.as_bytes()[start..]);
            if self.held.is_char_boundary(start) && self.stops.iter().any(may_begin) {
                break;
            }
            start += 1;
        }
        start
    }
}
