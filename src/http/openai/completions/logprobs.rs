//! Log-probabilities in the shape of this endpoint: four lists, an entry a token.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::engine::GeneratedToken;
use crate::tokenizer::Tokenizer;

/// Four lists, an entry a token in each.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct TokenLists {
    tokens: Vec<String>,
    /// As wide as JSON has numbers, so that they read the same in a stream.
    token_logprobs: Vec<f64>,
    /// By token; the chosen one is always among them.
    top_logprobs: Vec<BTreeMap<String, f64>>,
    /// In characters.
    text_offset: Vec<usize>,
}

/// Where in the text of one choice the next token begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Offset {
    num_characters: usize,
}

impl Offset {
    /// After a text, such as an echoed prompt.
    pub fn after(text: &str) -> Self {
        Self {
            num_characters: text.chars().count(),
        }
    }

    /// The four lists of the next tokens. A token whose text begins at `end` or later is left out: it belongs to a stop
    /// string.
    pub fn lists(
        &mut self,
        tokenizer: &Tokenizer,
        tokens: &[GeneratedToken],
        end: Option<usize>,
    ) -> TokenLists {
        let mut lists = TokenLists::default();
        for token in tokens {
            let Some(logprob) = &token.logprob else {
                continue;
            };
            if end.is_some_and(|end| self.num_characters >= end) {
                break;
            }
            let text = spelled(tokenizer, token.id);
            let alternatives = logprob.alternatives.iter();
            let alternatives =
                alternatives.map(|one| (spelled(tokenizer, one.id), one.logprob.into()));
            let mut top: BTreeMap<String, f64> = alternatives.collect();
            top.entry(text.clone()).or_insert(logprob.logprob.into());
            lists.tokens.push(text);
            lists.token_logprobs.push(logprob.logprob.into());
            lists.top_logprobs.push(top);
            lists.text_offset.push(self.num_characters);
            let bytes = tokenizer.token_bytes(token.id).unwrap_or_default();
            self.num_characters += num_characters(bytes);
        }
        lists
    }
}

/// A token as text, or, where it is a part of a character, as its bytes.
fn spelled(tokenizer: &Tokenizer, id: u32) -> String {
    let bytes = tokenizer.token_bytes(id).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let hex = bytes.iter().map(|byte| format!("\\x{byte:02x}"));
            format!("bytes:{}", hex.collect::<String>())
        }
    }
}

/// Characters that begin in these bytes.
fn num_characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

#[cfg(test)]
mod tests {
    use super::num_characters;

    #[test]
    fn a_character_in_two_tokens_counts_once() {
        let text = "né 日本";
        for cut in 0..=text.len() {
            let (left, right) = text.as_bytes().split_at(cut);
            assert_eq!(
                num_characters(left) + num_characters(right),
                text.chars().count()
            );
        }
    }
}
