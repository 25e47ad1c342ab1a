//! kernels

/// Read-only memory maps of files.
pub mod mapped_file;
