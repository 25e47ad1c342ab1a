//! The embedding model's tokenizer, from its tokenizer.json. It never truncates or pads, whatever the file says.

use std::ops::Range;
use std::path::Path;

use tokenizers::Tokenizer;

use super::{EmbeddingError, EmbeddingTokenizer};

pub(super) struct FileTokenizer {
    tokenizer: Tokenizer,
    num_special_tokens: usize,
}

impl FileTokenizer {
    /// Reads the bytes of `path`. `vocab_size` is the number of rows in the model's embedding table: a tokenizer with
    /// more ids belongs to another model.
    pub(super) fn from_bytes(
        bytes: &[u8],
        path: &Path,
        vocab_size: usize,
    ) -> Result<FileTokenizer, EmbeddingError> {
        let invalid = |reason: String| EmbeddingError::InvalidFile {
            path: path.to_owned(),
            reason,
        };
        let mut tokenizer =
            Tokenizer::from_bytes(bytes).map_err(|error| invalid(error.to_string()))?;
        tokenizer
            .with_truncation(None)
            .map_err(|error| invalid(error.to_string()))?;
        tokenizer.with_padding(None);
        let largest_id = tokenizer.get_vocab(true).into_values().max();
        if largest_id.is_none_or(|id| id as usize >= vocab_size) {
            return Err(invalid(format!(
                "its largest token id is {largest_id:?}, but the model knows {vocab_size} tokens; \
                 tokenizer.json and model.safetensors are of different models"
            )));
        }
        let mut tokenizer = FileTokenizer {
            tokenizer,
            num_special_tokens: 0,
        };
        // A character that no vocabulary has: a tokenizer without an unknown token fails here, not on a user's text.
        tokenizer
            .encode("\u{10FFFD}")
            .map_err(|error| invalid(error.to_string()))?;
        tokenizer.num_special_tokens = tokenizer
            .encode("")
            .map_err(|error| invalid(error.to_string()))?
            .len();
        Ok(tokenizer)
    }
}

/// Two texts as one input.
pub(super) struct EncodedPair {
    pub ids: Vec<u32>,
    /// Where the second text's own tokens lie among them.
    pub second: Range<usize>,
    /// Tokens before the first of type 1.
    pub num_first: usize,
}

impl FileTokenizer {
    /// The ids of two texts with the special tokens that the model expects around and between them.
    pub(super) fn encode_pair(
        &self,
        first: &str,
        second: &str,
    ) -> Result<EncodedPair, EmbeddingError> {
        let encoding = self
            .tokenizer
            .encode_fast((first, second), true)
            .map_err(|error| EmbeddingError::Tokenize {
                reason: error.to_string(),
            })?;
        let types = encoding.get_type_ids();
        let sequences = encoding.get_sequence_ids();
        let is_second = |it: &Option<usize>| *it == Some(1);
        let start = sequences.iter().position(is_second);
        let end = sequences.iter().rposition(is_second);
        let num_first = types.iter().position(|it| *it != 0).unwrap_or(types.len());
        Ok(EncodedPair {
            ids: encoding.get_ids().to_vec(),
            second: start.zip(end).map_or(0..0, |(start, end)| start..end + 1),
            num_first,
        })
    }
}

impl EmbeddingTokenizer for FileTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, EmbeddingError> {
        let encoding =
            self.tokenizer
                .encode_fast(text, true)
                .map_err(|error| EmbeddingError::Tokenize {
                    reason: error.to_string(),
                })?;
        Ok(encoding.get_ids().to_vec())
    }

    fn num_special_tokens(&self) -> usize {
        self.num_special_tokens
    }

    fn unknown_token(&self) -> Option<u32> {
        let names = ["[UNK]", "<unk>"];
        names
            .iter()
            .find_map(|name| self.tokenizer.token_to_id(name))
    }
}
