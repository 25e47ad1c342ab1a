//! Memory that kernels read and write: a GPU's, or the emulator's.

use super::launch::Launch;

/// f32 numbers in that memory.
#[derive(Debug)]
pub struct Floats<M: Memory> {
    buffer: M::Buffer,
    len: usize,
}

impl<M: Memory> Floats<M> {
    pub fn new(memory: &M, numbers: &[f32]) -> Result<Self, M::Error> {
        Ok(Self {
            buffer: memory.floats(numbers)?,
            len: numbers.len(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn address(&self, memory: &M) -> u64 {
        memory.address(&self.buffer)
    }
}

/// A type whose numbers a GPU has in the same bytes, of which every pattern is one.
pub(super) trait Number {}

impl Number for f32 {}
impl Number for u32 {}

pub(super) fn bytes<T: Number>(numbers: &[T]) -> &[u8] {
    // SAFETY: they have no gaps, and every pattern of bits is a byte.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

pub(super) fn bytes_mut<T: Number>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: they have no gaps, and every pattern of bits is a number.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}

/// What has memory, and runs kernels on what is in it.
pub trait Memory: Launch {
    type Buffer: std::fmt::Debug + Send + Sync;

    /// Room for this many bytes, at a multiple of sixteen bytes; what is in it at first means nothing.
    fn room(&self, num_bytes: usize) -> Result<Self::Buffer, Self::Error>;

    /// Writes `bytes` from byte `first` of a buffer on.
    ///
    /// # Panics
    /// When they do not fit.
    fn write(
        &self,
        buffer: &mut Self::Buffer,
        first: usize,
        bytes: &[u8],
    ) -> Result<(), Self::Error>;

    /// Reads bytes from byte `first` of a buffer on, after all that was launched has run.
    ///
    /// # Panics
    /// When there are not so many.
    fn read(
        &self,
        buffer: &Self::Buffer,
        first: usize,
        bytes: &mut [u8],
    ) -> Result<(), Self::Error>;

    /// Where a buffer is, as long as it lives. Asks nothing of a GPU, so that it may be called while launches are recorded.
    fn address(&self, buffer: &Self::Buffer) -> u64;

    /// A buffer of these numbers.
    fn floats(&self, numbers: &[f32]) -> Result<Self::Buffer, Self::Error> {
        let bytes = bytes(numbers);
        let mut buffer = self.room(bytes.len().max(1))?;
        self.write(&mut buffer, 0, bytes)?;
        Ok(buffer)
    }
}

/// What records launches once and runs them again and again, for less than they cost one by one.
pub trait Capture: Memory {
    type Graph: std::fmt::Debug + Send;

    /// Records what `work` launches, with its arguments; none of it is run. Every kernel must have been launched before, and
    /// `work` must do nothing but launch: room cannot be taken, nor anything written or read, between launches that are recorded.
    /// Or why it could not be recorded, after which launches go on as if nothing had been tried.
    fn capture(
        &self,
        work: impl FnOnce() -> Result<(), Self::Error>,
    ) -> Result<Self::Graph, String>;

    /// Runs what was recorded.
    ///
    /// # Safety
    /// As when it was launched: every address must still be that of as much memory as the kernels use.
    unsafe fn replay(&self, graph: &Self::Graph) -> Result<(), Self::Error>;
}
