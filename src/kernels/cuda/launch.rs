//! Running kernels, on a GPU or on the emulator.

#[cfg(feature = "cuda")]
use candle_core::cuda_backend::WrapErr;
#[cfg(feature = "cuda")]
use cudarc::driver::{LaunchConfig, PushKernelArg};

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

/// The kernels, compiled when the program was built.
#[cfg(feature = "cuda")]
const KERNELS: &str = include_str!(concat!(env!("OUT_DIR"), "/attention.ptx"));

/// On the device's own stream, as candle's operations are.
#[cfg(feature = "cuda")]
impl Launch for candle_core::CudaDevice {
    type Error = candle_core::Error;

    unsafe fn launch(
        &self,
        kernel: &str,
        [x, y, z]: [u32; 3],
        num_threads: u32,
        arguments: &[Argument],
    ) -> candle_core::Result<()> {
        let function = self.get_or_load_custom_func(kernel, "inglenook-attention", KERNELS)?;
        let mut launch = function.builder();
        for argument in arguments {
            match argument {
                Argument::Address(address) => launch.arg(address),
                Argument::Int(number) => launch.arg(number),
                Argument::Float(number) => launch.arg(number),
            };
        }
        let config = LaunchConfig {
            grid_dim: (x, y, z),
            block_dim: (num_threads, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the caller's promise.
        unsafe { launch.launch(config) }.w()?;
        Ok(())
    }
}
