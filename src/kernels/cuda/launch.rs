//! Running kernels, on a GPU or on the emulator.

/// An argument of a kernel.
#[derive(Debug, Clone, Copy)]
pub enum Argument {
    /// An address in the GPU's memory.
    Address(u64),
    Int(i32),
    Float(f32),
}

/// What runs kernels, one after the other.
pub trait Launch {
    type Error;

    /// Runs `kernel` on `grid` blocks of `num_threads` threads each.
    ///
    /// # Safety
    /// The arguments must be those of the kernel, and every address that of as much memory as it uses.
    unsafe fn launch(
        &self,
        kernel: &str,
        grid: [u32; 3],
        num_threads: u32,
        arguments: &[Argument],
    ) -> Result<(), Self::Error>;
}
