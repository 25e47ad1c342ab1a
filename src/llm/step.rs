//! Turns a batch into the flat arrays that one step computes with, after checking every index in it. A batch that
//! passes can neither read nor write outside the cache.

use super::rope::{Angles, Rope};
use super::{Batch, LlmError, LogitsFor, ModelSpec, SequenceInput};
use crate::kernels::paged_attention::SequenceRows;

/// A checked batch, flat: all tokens of all sequences side by side.
pub(crate) struct Step<'a> {
    pub tokens: Vec<u32>,
    /// Block and slot of every token.
    pub slots: Vec<(u32, usize)>,
    pub sequences: Vec<SequenceRows<'a>>,
    /// Rows whose logits were asked for, ascending.
    pub logit_rows: Vec<u32>,
    /// What the tokens after them may be drawn by instead, on a GPU.
    #[cfg(any(feature = "cuda", test))]
    pub draws: Vec<Option<super::Draw>>,
    /// What each of the model's rotations turns every token by.
    pub angles: Vec<Angles>,
}

impl<'a> Step<'a> {
    pub fn new(batch: &'a Batch, spec: &ModelSpec, ropes: &[Rope]) -> Result<Self, LlmError> {
        let num_tokens = batch.sequences.iter().map(|s| s.tokens.len()).sum();
        let mut tokens = Vec::with_capacity(num_tokens);
        let mut positions = Vec::with_capacity(num_tokens);
        let mut slots = Vec::with_capacity(num_tokens);
        let mut sequences = Vec::with_capacity(batch.sequences.len());
        let mut logit_rows = Vec::new();
        let copied = batch.copies.iter().flat_map(|&(from, to)| [from, to]);
        if let Some(block) = copied.max().filter(|it| *it as usize >= spec.num_blocks) {
            let num_blocks = spec.num_blocks;
            return Err(LlmError::InvalidCopy { block, num_blocks });
        }
        for (index, input) in batch.sequences.iter().enumerate() {
            check(input, spec).map_err(|problem| LlmError::InvalidBatch {
                sequence: index,
                problem,
            })?;
            let first_row = tokens.len();
            let num_rows = input.tokens.len();
            tokens.extend(&input.tokens);
            for position in input.start..input.start + num_rows {
                positions.push(position);
                let block = input.block_table[position / spec.block_size];
                slots.push((block, position % spec.block_size));
            }
            sequences.push(SequenceRows {
                first_row,
                num_rows,
                start: input.start,
                block_table: &input.block_table,
            });
            let rows = first_row as u32..(first_row + num_rows) as u32;
            match input.logits {
                LogitsFor::None => {}
                LogitsFor::Last => logit_rows.extend(rows.last()),
                LogitsFor::All => logit_rows.extend(rows),
            }
        }
        Ok(Self {
            angles: ropes.iter().map(|rope| rope.angles(&positions)).collect(),
            tokens,
            slots,
            sequences,
            logit_rows,
            #[cfg(any(feature = "cuda", test))]
            draws: batch.draws(),
        })
    }
}

fn check(input: &SequenceInput, spec: &ModelSpec) -> Result<(), String> {
    if input.tokens.is_empty() {
        return Err("it has no tokens".to_owned());
    }
    if let Some(token) = input
        .tokens
        .iter()
        .find(|t| **t as usize >= spec.vocab_size)
    {
        return Err(format!(
            "token {token} is outside the vocabulary of {}",
            spec.vocab_size
        ));
    }
    let end = input.start.saturating_add(input.tokens.len());
    if end > spec.context_length {
        return Err(format!(
            "it ends at position {end}, beyond the context of {}",
            spec.context_length
        ));
    }
    let num_blocks = end.div_ceil(spec.block_size);
    let Some(blocks) = input.block_table.get(..num_blocks) else {
        return Err(format!(
            "it needs {num_blocks} blocks, but its table has {}",
            input.block_table.len()
        ));
    };
    if let Some(block) = blocks.iter().find(|b| **b as usize >= spec.num_blocks) {
        return Err(format!(
            "block {block} is outside the cache of {}",
            spec.num_blocks
        ));
    }
    Ok(())
}
