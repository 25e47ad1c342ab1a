//! The paged cache and its attention in candle's operations, for devices that our kernel does not run on. Reads
//! exactly the positions that a row may see.

use candle_core::{D, DType, Device, Tensor};
use candle_nn::ops::softmax_last_dim;
use candle_nn::rotary_emb::{rope, rope_i};

use super::LlmError;
use super::rope::Pairing;
use super::step::Step;
use crate::kernels::paged_attention::{AttentionShape, SequenceRows};

/// Keys and values of one layer, `[num_blocks * block_size, num_kv_heads, dim]` each.
#[derive(Debug)]
pub(crate) struct TensorCache {
    shape: AttentionShape,
    keys: Tensor,
    values: Tensor,
}

impl TensorCache {
    pub fn new(
        shape: AttentionShape,
        num_blocks: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self, LlmError> {
        let positions = num_blocks * shape.block_size;
        let zeros = |dim| Tensor::zeros((positions, shape.num_kv_heads, dim), dtype, device);
        Ok(Self {
            shape,
            keys: zeros(shape.key_dim)?,
            values: zeros(shape.value_dim)?,
        })
    }

    /// As [`super::attention::Attention::forward`], for this layer.
    pub fn forward(
        &mut self,
        [query, key, value]: [&Tensor; 3],
        step: &Step,
        pairing: Pairing,
    ) -> Result<Tensor, LlmError> {
        let AttentionShape {
            num_heads,
            num_kv_heads,
            key_dim,
            value_dim,
            ..
        } = self.shape;
        let num_tokens = step.tokens.len();
        let query = rotate(
            &query.reshape((num_tokens, num_heads, key_dim))?,
            step,
            pairing,
        )?;
        let key = rotate(
            &key.reshape((num_tokens, num_kv_heads, key_dim))?,
            step,
            pairing,
        )?;
        let value = value.reshape((num_tokens, num_kv_heads, value_dim))?;
        let slots = step
            .slots
            .iter()
            .map(|&(block, slot)| self.index(block, slot))
            .collect();
        let slots = Tensor::from_vec(slots, (num_tokens, 1, 1), query.device())?;
        overwrite(&self.keys, &slots, &key)?;
        overwrite(&self.values, &slots, &value)?;
        let outputs = step
            .sequences
            .iter()
            .map(|rows| self.attend(&query, rows))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::cat(&outputs, 0)?)
    }

    /// Makes block `to` hold what block `from` holds.
    pub fn copy_block(&mut self, from: u32, to: u32) -> Result<(), LlmError> {
        let block_size = self.shape.block_size;
        for cache in [&self.keys, &self.values] {
            let source = cache.narrow(0, from as usize * block_size, block_size)?;
            cache.slice_set(&source.copy()?, 0, to as usize * block_size)?;
        }
        Ok(())
    }

    fn attend(&self, query: &Tensor, rows: &SequenceRows) -> Result<Tensor, LlmError> {
        let AttentionShape {
            num_heads,
            num_kv_heads,
            key_dim,
            value_dim,
            block_size,
        } = self.shape;
        let group = num_heads / num_kv_heads;
        let (num_rows, end) = (rows.num_rows, rows.start + rows.num_rows);
        let positions: Vec<u32> = (0..end)
            .map(|p| self.index(rows.block_table[p / block_size], p % block_size))
            .collect();
        let positions = Tensor::from_vec(positions, end, query.device())?;
        // [num_kv_heads, end, dim]
        let gather = |cache: &Tensor| -> Result<Tensor, LlmError> {
            let gathered = cache.index_select(&positions, 0)?.to_dtype(DType::F32)?;
            Ok(gathered.transpose(0, 1)?.contiguous()?)
        };
        let (keys, values) = (gather(&self.keys)?, gather(&self.values)?);
        let query = query
            .narrow(0, rows.first_row, num_rows)?
            .transpose(0, 1)?
            .contiguous()?
            .reshape((num_kv_heads, group * num_rows, key_dim))?;
        let scores = (query.matmul(&keys.t()?.contiguous()?)? / (key_dim as f64).sqrt())?;
        let scores = scores.reshape((num_heads, num_rows, end))?;
        let scores = if num_rows > 1 {
            scores.broadcast_add(&causal_mask(rows, query.device())?)?
        } else {
            scores
        };
        let weights = softmax_last_dim(&scores)?;
        let mixed = weights
            .reshape((num_kv_heads, group * num_rows, end))?
            .matmul(&values)?
            .reshape((num_heads, num_rows, value_dim))?;
        Ok(mixed
            .transpose(0, 1)?
            .reshape((num_rows, num_heads * value_dim))?)
    }

    fn index(&self, block: u32, slot: usize) -> u32 {
        block * self.shape.block_size as u32 + slot as u32
    }
}

/// `[num_rows, end]`: 0 where a row may look, minus infinity where it may not.
fn causal_mask(rows: &SequenceRows, device: &Device) -> Result<Tensor, LlmError> {
    let end = rows.start + rows.num_rows;
    let mask = (rows.start..end)
        .flat_map(|row| {
            (0..end).map(move |position| {
                if position <= row {
                    0.0
                } else {
                    f32::NEG_INFINITY
                }
            })
        })
        .collect();
    Ok(Tensor::from_vec(mask, (rows.num_rows, end), device)?)
}

/// Rotates `[num_tokens, num_heads, head_dim]`.
fn rotate(heads: &Tensor, step: &Step, pairing: Pairing) -> Result<Tensor, LlmError> {
    let (num_tokens, _, head_dim) = heads.dims3()?;
    let angles = |numbers: &[f32]| {
        Tensor::from_slice(numbers, (num_tokens, step.angles.num_pairs), heads.device())
    };
    let (cos, sin) = (angles(&step.angles.cos)?, angles(&step.angles.sin)?);
    let rotated_dim = 2 * step.angles.num_pairs;
    // [1, num_heads, num_tokens, rotated_dim]
    let rotated = heads
        .narrow(D::Minus1, 0, rotated_dim)?
        .transpose(0, 1)?
        .unsqueeze(0)?
        .contiguous()?;
    let rotated = match pairing {
        Pairing::Interleaved => rope_i(&rotated, &cos, &sin)?,
        Pairing::Halves => rope(&rotated, &cos, &sin)?,
    };
    let rotated = rotated.squeeze(0)?.transpose(0, 1)?;
    if rotated_dim == head_dim {
        return Ok(rotated.contiguous()?);
    }
    let kept = heads.narrow(D::Minus1, rotated_dim, head_dim - rotated_dim)?;
    Ok(Tensor::cat(&[&rotated, &kept], D::Minus1)?)
}

/// Writes the rows of `source` over those rows of `cache` that `slots` `[num_rows, 1, 1]` names.
fn overwrite(cache: &Tensor, slots: &Tensor, source: &Tensor) -> Result<(), LlmError> {
    let slots = slots.broadcast_as(source.shape())?.contiguous()?;
    let source = source.to_dtype(cache.dtype())?.contiguous()?;
    Ok(cache.scatter_set(&slots, &source, 0)?)
}
