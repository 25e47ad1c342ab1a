//! Reads and validates GGUF files (<https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>), versions 2 and 3.
//! Must never trust a number from the file: whatever the bytes, opening ends in a checked file or an error.

mod header;
mod metadata;

#[cfg(test)]
pub(crate) mod builder;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use candle_core::quantized::GgmlDType;

use crate::kernels::mapped_file::MappedFile;

pub use metadata::{Array, Metadata, Value};

/// An open GGUF file. Its metadata is in memory, its tensors are mapped.
#[derive(Debug)]
pub struct GgufFile {
    file: MappedFile,
    metadata: Metadata,
    tensors: Vec<TensorEntry>,
    index: HashMap<String, usize>,
}

/// Where one tensor lies and how to read it.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorEntry {
    pub name: String,
    /// Row-major, outermost dimension first: the reverse of the order in the file. None of them is 0.
    pub shape: Vec<usize>,
    pub dtype: GgmlDType,
    /// Bytes of the file; checked to lie inside it.
    range: Range<usize>,
}

impl TensorEntry {
    /// Bytes that the tensor takes in the file.
    pub fn num_bytes(&self) -> usize {
        self.range.len()
    }
}

impl GgufFile {
    /// Maps the file and checks its whole header and tensor table. Tensor data is not read.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let file = MappedFile::open(path).map_err(|source| GgufError::Read {
            path: path.to_owned(),
            source,
        })?;
        let header = header::parse(&file).map_err(|problem| GgufError::Invalid {
            path: path.to_owned(),
            problem,
        })?;
        let index = header
            .tensors
            .iter()
            .enumerate()
            .map(|(i, tensor)| (tensor.name.clone(), i))
            .collect();
        Ok(Self {
            file,
            metadata: header.metadata,
            tensors: header.tensors,
            index,
        })
    }

    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in the order of the file's table.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorEntry> {
        self.tensors.iter()
    }

    pub fn tensor(&self, name: &str) -> Option<&TensorEntry> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// The mapped bytes of a tensor of this file.
    ///
    /// # Panics
    /// When the entry is of another, longer file.
    pub fn tensor_bytes(&self, tensor: &TensorEntry) -> &[u8] {
        &self.file[tensor.range.clone()]
    }

    /// Says that bytes of a tensor will hardly be read again, so that they need not stay in memory.
    pub fn release_bytes(&self, bytes: &[u8]) {
        self.file.release(bytes);
    }
}

/// Why a GGUF file was refused.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    #[error("cannot read {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path} is not a usable GGUF file: {problem}")]
    Invalid { path: PathBuf, problem: Problem },
}

/// What is wrong with the bytes of a GGUF file.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    #[error(
        "it starts with {found:02x?} instead of \"GGUF\"; check that the download is complete and of this format"
    )]
    Magic { found: Vec<u8> },
    #[error(
        "its version is {0}, but only 2 and 3 can be read; convert the model again with current tools"
    )]
    Version(u32),
    #[error(
        "it is big-endian, but only little-endian files can be read; convert the model for this machine"
    )]
    BigEndian,
    #[error("it ends inside {what}; download it again")]
    Truncated { what: &'static str },
    #[error(
        "{what} is {found}, more than its remaining {available} bytes can hold; download it again"
    )]
    TooMany {
        what: &'static str,
        found: u64,
        available: usize,
    },
    #[error("its header goes on after {limit} bytes, more than any known model needs")]
    HeaderTooLong { limit: usize },
    #[error("{what} is not valid UTF-8")]
    NotUtf8 { what: String },
    #[error("metadata key {key:?} has the unknown type number {type_number}")]
    ValueType { key: String, type_number: u32 },
    #[error("metadata key {key:?} is a bool with the value {found}, which is neither 0 nor 1")]
    Bool { key: String, found: u8 },
    #[error("metadata key {key:?} has arrays in arrays more than {limit} deep")]
    Nesting { key: String, limit: usize },
    #[error("metadata key {key:?} occurs twice")]
    DuplicateKey { key: String },
    #[error("general.alignment is {found}, but must be a power of two from 8 to 65536")]
    Alignment { found: String },
    #[error("tensor {tensor:?} occurs twice")]
    DuplicateTensor { tensor: String },
    #[error("tensor {tensor:?} has {found} dimensions, but at most 4 are allowed")]
    Rank { tensor: String, found: u32 },
    #[error("tensor {tensor:?} has a dimension of 0")]
    EmptyDimension { tensor: String },
    #[error(
        "tensor {tensor:?} is stored as {type_name}, which cannot be computed with; use a file quantized to F16, \
         BF16, Q8_0, Q6_K, Q5_K, Q4_K, Q3_K, Q2_K, Q5_1, Q5_0, Q4_1 or Q4_0"
    )]
    TensorType { tensor: String, type_name: String },
    #[error(
        "tensor {tensor:?} has rows of {row} numbers, which its type stores in blocks of {block}"
    )]
    RowLength {
        tensor: String,
        row: usize,
        block: usize,
    },
    #[error("tensor {tensor:?} has more numbers than memory has addresses")]
    TooLarge { tensor: String },
    #[error(
        "tensor {tensor:?} starts at {offset}, which is not a multiple of the alignment {alignment}"
    )]
    Misaligned {
        tensor: String,
        offset: u64,
        alignment: usize,
    },
    #[error(
        "tensor {tensor:?} needs {size} bytes from byte {offset} of the tensor data, which has only {available}; \
         download it again"
    )]
    OutsideFile {
        tensor: String,
        offset: u64,
        size: usize,
        available: usize,
    },
}
