//! Drawing tokens where the logits are; `sampling.cu` has the kernel. A row's token depends on that row and its draw alone.

use super::launch::Argument;
use super::memory::Memory;
use crate::kernels::draw::{Draw, Drawn, InvalidLogits};

/// Tokens that a thread looks at in each pass over a row, at least: so many threads are started.
const TOKENS_PER_THREAD: usize = 16;
const MAX_THREADS: usize = 1024;
/// What the kernel gives for a row that is no distribution.
const NO_TOKEN: u32 = u32::MAX;

/// A row of logits, and what its token is drawn by.
#[derive(Debug, Clone, Copy, PartialEq)]
struct RowDraw {
    row: usize,
    draw: Draw,
}

impl RowDraw {
    /// As in the kernel.
    fn to_bytes(self) -> [u8; 32] {
        let Draw {
            temperature,
            top_k,
            top_p,
            min_p,
            uniform,
        } = self.draw;
        let top_k = top_k.map_or(u32::MAX, |k| u32::try_from(k).unwrap_or(u32::MAX));
        let mut bytes = [0; 32];
        let words = [
            (self.row as u32).to_le_bytes(),
            temperature.to_le_bytes(),
            top_k.to_le_bytes(),
            top_p.to_le_bytes(),
            min_p.to_le_bytes(),
        ];
        bytes[..20].copy_from_slice(words.as_flattened());
        bytes[24..].copy_from_slice(&uniform.to_le_bytes());
        bytes
    }
}

/// Room for what is drawn by, and for the tokens that are drawn.
#[derive(Debug)]
pub struct DrawRooms<M: Memory> {
    draws: M::Buffer,
    tokens: M::Buffer,
}

impl<M: Memory> DrawRooms<M> {
    /// For up to so many draws.
    pub fn new(memory: &M, num_draws: usize) -> Result<Self, M::Error> {
        let [draws, tokens] = draw_rooms_bytes(num_draws);
        Ok(Self {
            draws: memory.room(draws)?,
            tokens: memory.room(tokens)?,
        })
    }
}

/// Bytes of the two rooms.
pub fn draw_rooms_bytes(num_draws: usize) -> [usize; 2] {
    [
        num_draws * size_of::<[u8; 32]>(),
        num_draws * size_of::<u32>(),
    ]
}

/// Draws a token for each of `draws`, and waits for them.
///
/// # Safety
/// `logits` must be the address of f32 rows of `vocab_size` numbers, as many as `draws` name.
///
/// # Panics
/// When the rooms are for fewer.
unsafe fn draw_tokens<M: Memory>(
    memory: &M,
    rooms: &mut DrawRooms<M>,
    logits: u64,
    vocab_size: usize,
    draws: &[RowDraw],
) -> Result<Vec<Drawn>, M::Error> {
    if draws.is_empty() {
        return Ok(Vec::new());
    }
    let bytes: Vec<[u8; 32]> = draws.iter().map(|draw| draw.to_bytes()).collect();
    memory.write(&mut rooms.draws, 0, bytes.as_flattened())?;
    let mut tokens = vec![[0; 4]; draws.len()];
    let num_threads = vocab_size.div_ceil(TOKENS_PER_THREAD).next_multiple_of(32);
    let arguments = [
        Argument::Address(logits),
        Argument::Int(vocab_size as i32),
        Argument::Address(memory.address(&rooms.draws)),
        Argument::Address(memory.address(&rooms.tokens)),
    ];
    // SAFETY: the caller's promise, and there is room for all draws and as many tokens.
    unsafe {
        memory.launch(
            "draw_tokens",
            [draws.len() as u32, 1, 1],
            num_threads.min(MAX_THREADS) as u32,
            &arguments,
        )?;
    }
    memory.read(&rooms.tokens, 0, tokens.as_flattened_mut())?;
    let token = |bytes| match u32::from_le_bytes(bytes) {
        NO_TOKEN => Err(InvalidLogits),
        token => Ok(token),
    };
    Ok(tokens.into_iter().map(token).collect())
}

/// Draws a token from each row that has a draw, and waits for them.
///
/// # Safety
/// `logits` must be the address of f32 rows of `vocab_size` numbers, as many as there are `draws`.
///
/// # Panics
/// When the rooms are for fewer.
pub unsafe fn draw_rows<M: Memory>(
    memory: &M,
    rooms: &mut DrawRooms<M>,
    logits: u64,
    vocab_size: usize,
    draws: &[Option<Draw>],
) -> Result<Vec<Option<Drawn>>, M::Error> {
    let rows = draws.iter().enumerate();
    let row_draws: Vec<RowDraw> = rows
        .filter_map(|(row, draw)| draw.map(|draw| RowDraw { row, draw }))
        .collect();
    // SAFETY: the caller's promise.
    let tokens = unsafe { draw_tokens(memory, rooms, logits, vocab_size, &row_draws)? };
    let mut tokens = tokens.into_iter();
    let token = |draw: &Option<Draw>| draw.and_then(|_| tokens.next());
    Ok(draws.iter().map(token).collect())
}

/// As [`draw_rows`], from logits `[draws.len(), vocab_size]`.
#[cfg(feature = "cuda")]
pub fn draw_rows_on(
    gpu: &super::gpu::Gpu,
    logits: &cudarc::driver::CudaView<'_, f32>,
    vocab_size: usize,
    draws: &[Option<Draw>],
) -> candle_core::Result<Vec<Option<Drawn>>> {
    use cudarc::driver::DevicePtr;

    let num_rows = draws.len();
    if logits.len() != num_rows * vocab_size {
        candle_core::bail!("{num_rows} rows of {vocab_size} logits were expected");
    }
    // All of it is used on the one stream, in order; the guard is for programs with several.
    let stream = gpu.device().cuda_stream();
    let (address, _guard) = logits.device_ptr(&stream);
    let mut rooms = DrawRooms::new(gpu, num_rows)?;
    // SAFETY: the rows were counted.
    unsafe { draw_rows(gpu, &mut rooms, address, vocab_size, draws) }
}

#[cfg(all(test, unix))]
mod tests;
