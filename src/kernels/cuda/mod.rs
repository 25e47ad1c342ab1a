//! What runs on NVIDIA GPUs. The kernels are CUDA C++, compiled at build time for one compute capability; in tests an
//! emulator runs them on the CPU.

pub mod attention;
#[cfg(feature = "cuda")]
pub mod cache;
pub mod decoder;
#[cfg(feature = "cuda")]
pub mod driver;
#[cfg(all(test, unix))]
pub mod emulator;
#[cfg(feature = "cuda")]
pub mod gpu;
pub mod launch;
pub mod matrix;
pub mod memory;
#[cfg(feature = "cuda")]
pub mod products;
pub mod rows;
pub mod sampling;
pub mod texts;
