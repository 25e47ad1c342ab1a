//! Reading what a step gives from a GPU's memory: of rows that tokens may be drawn from only the tokens, as the rows are as
//! long as the vocabulary.

use candle_core::{Storage, Tensor};

use super::{Draw, Drawn, LlmError, Logits};
use crate::kernels::cuda::cache::numbers;
use crate::kernels::cuda::gpu::Gpu;
use crate::kernels::cuda::sampling::draw_rows_on;

/// From logits `[draws.len(), vocab_size]`.
pub(crate) fn read(logits: &Tensor, draws: &[Option<Draw>]) -> Result<Logits, LlmError> {
    let vocab_size = logits.dim(1)?;
    let drawn = draw(logits, draws)?;
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

fn draw(logits: &Tensor, draws: &[Option<Draw>]) -> Result<Vec<Option<Drawn>>, LlmError> {
    if draws.iter().all(Option::is_none) {
        return Ok(vec![None; draws.len()]);
    }
    let gpu = Gpu::new(logits.device().as_cuda_device()?);
    let logits = logits.contiguous()?;
    let (storage, layout) = logits.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        return Err(candle_core::Error::Msg("the logits are not in a GPU's memory".into()).into());
    };
    let vocab_size = logits.dim(1)?;
    let numbers = numbers(storage, layout)?;
    Ok(draw_rows_on(&gpu, &numbers, vocab_size, draws)?)
}
