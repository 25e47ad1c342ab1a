//! The inner loops that candle lacks or is slow at. Every `unsafe` block of the project lives here.

pub mod activation;
pub mod codes;
#[cfg(any(test, feature = "cuda"))]
pub mod cuda;
pub mod draw;
/// Read-only memory maps of files.
pub mod mapped_file;
pub mod matrix;
pub mod memory;
pub mod norm;
pub mod paged_attention;
pub mod parallel;
pub mod self_attention;
pub mod sketches;
pub mod threads;
pub mod vector;
