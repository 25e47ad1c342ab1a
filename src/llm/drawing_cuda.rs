//! Reading what a step gives from a GPU's memory: of rows that tokens may be drawn from only the tokens, as the rows are as
//! long as the vocabulary.

use candle_core::{Storage, Tensor};

use super::{Draw, Drawn, LlmError, Logits};
use crate::kernels::cuda::cache::numbers;
use crate::kernels::cuda::gpu::Gpu;
use crate::kernels::cuda::sampling::{RowDraw, draw_tokens_on, row_draws};

/// From logits `[draws.len(), vocab_size]`.
pub(crate) fn read(logits: &Tensor, draws: &[Option<Draw>]) -> Result<Logits, LlmError> {
    let vocab_size = logits.dim(1)?;
    let mut drawn: Vec<Option<Drawn>> = vec![None; draws.len()];
    let row_draws = row_draws(draws);
    for (row_draw, token) in row_draws.iter().zip(draw(logits, &row_draws)?) {
        drawn[row_draw.row] = Some(token);
    }
    let rest = (0..).zip(&drawn).filter(|(_, drawn)| drawn.is_none());
    let rest: Vec<u32> = rest.map(|(row, _)| row).collect();
    let values = match rest.len() {
        0 => Vec::new(),
        len if len == draws.len() => logits.flatten_all()?.to_vec1::<f32>()?,
        _ => {
            let rest = Tensor::new(rest, logits.device())?;
            let logits = logits.index_select(&rest, 0)?;
            logits.flatten_all()?.to_vec1::<f32>()?
        }
    };
    Ok(Logits::with_drawn(values, vocab_size, drawn))
}

fn draw(logits: &Tensor, draws: &[RowDraw]) -> Result<Vec<Drawn>, LlmError> {
    if draws.is_empty() {
        return Ok(Vec::new());
    }
    let gpu = Gpu::new(logits.device().as_cuda_device()?);
    let logits = logits.contiguous()?;
    let (storage, layout) = logits.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        return Err(candle_core::Error::Msg("the logits are not in a GPU's memory".into()).into());
    };
    let vocab_size = logits.dim(1)?;
    let numbers = numbers(storage, layout)?;
    Ok(draw_tokens_on(&gpu, &numbers, vocab_size, draws)?)
}
