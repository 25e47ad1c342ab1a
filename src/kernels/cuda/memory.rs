//! Memory that kernels read and write: a GPU's, or the emulator's.

use super::launch::Launch;

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

    fn address(&self, buffer: &Self::Buffer) -> u64;

    /// A buffer of these numbers.
    fn floats(&self, numbers: &[f32]) -> Result<Self::Buffer, Self::Error> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut buffer = self.room(bytes.len().max(1))?;
        self.write(&mut buffer, 0, &bytes)?;
        Ok(buffer)
    }
}
