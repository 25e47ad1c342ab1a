//! A tokenizer's vocabulary as the grammar library reads it: the bytes of each token that text is made of, in a tree.
//! Control tokens are in it by number only, so that no text can contain one.

use std::sync::Arc;

use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

use super::ConstrainError;
use crate::tokenizer::Tokenizer;

/// A longer token is never allowed: the tree has no place for it.
const MAX_TOKEN_BYTES: usize = 512;
/// Nodes that the tree can number, which are at most as many as bytes.
const MAX_BYTES: usize = 4_000_000;

/// Takes about as long as loading the tokenizer did.
pub fn environment(tokenizer: &Tokenizer) -> Result<TokEnv, ConstrainError> {
    let unusable = |message: &str| ConstrainError::Unavailable {
        message: message.into(),
    };
    let num_tokens = tokenizer.vocab_size();
    let end_tokens = tokenizer.end_tokens();
    let &[first_end, ..] = end_tokens else {
        return Err(unusable("this model has no token that ends an answer"));
    };
    let words: Vec<Vec<u8>> = (0..num_tokens as u32)
        .map(|id| {
            let bytes = tokenizer.text_bytes(id).unwrap_or_default();
            let is_usable = bytes.len() <= MAX_TOKEN_BYTES
                && bytes.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER)
                && !end_tokens.contains(&id);
            if is_usable {
                bytes.to_vec()
            } else {
                Vec::new()
            }
        })
        .collect();
    if words.iter().map(Vec::len).sum::<usize>() >= MAX_BYTES {
        return Err(unusable("this model's vocabulary is too large"));
    }
    let info = TokRxInfo::new(num_tokens as u32, first_end);
    let trie = TokTrie::from(&info, &words).with_eos_tokens(end_tokens);
    Ok(Arc::new(ApproximateTokEnv::new(trie)))
}
