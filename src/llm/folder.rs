//! A model in Hugging Face's layout: a folder with `config.json` and its weights as safetensors
//! (<https://github.com/huggingface/safetensors>), in one file or in several with an index. Must never trust a number in
//! them: opening ends in a checked model or an error.

mod config;
mod names;

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Component, Path};

use candle_core::quantized::GgmlDType;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::LlmError;
use super::checkpoint::{Checkpoint, StoredTensor};
use super::hyperparameters::Hyperparameters;
use crate::kernels::mapped_file::MappedFile;

/// More than any known model's `config.json` or index has.
const MAX_JSON_BYTES: u64 = 64 << 20;

/// An open folder. Its weights are mapped.
#[derive(Debug)]
pub(crate) struct ModelFolder {
    pub hyperparameters: Hyperparameters,
    files: Vec<MappedFile>,
    /// By GGUF's names.
    tensors: HashMap<String, Entry>,
    /// Names that no model of the family has.
    unknown: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    shape: Vec<usize>,
    dtype: GgmlDType,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    /// Of one of the files; checked to lie inside it.
    Mapped { file: usize, range: Range<usize> },
    /// What the configuration has and GGUF files have as a tensor.
    Own(Vec<u8>),
}

impl ModelFolder {
    /// Reads the configuration, maps the weights and checks their headers. Tensor data is not read.
    pub fn open(dir: &Path) -> Result<Self, LlmError> {
        let json = required_json(&dir.join("config.json"))?;
        let config = config::translate(&json)?;
        let mut folder = Self {
            hyperparameters: config.hyperparameters()?,
            files: Vec::new(),
            tensors: HashMap::new(),
            unknown: Vec::new(),
        };
        for name in weight_files(dir)? {
            folder.add_file(&dir.join(name), config.is_tied)?;
        }
        for (name, numbers) in config.vectors {
            let entry = Entry {
                shape: vec![numbers.len()],
                dtype: GgmlDType::F32,
                bytes: Bytes::Own(numbers.iter().flat_map(|x| x.to_le_bytes()).collect()),
            };
            folder.tensors.insert(name.to_owned(), entry);
        }
        Ok(folder)
    }

    fn add_file(&mut self, path: &Path, is_tied: bool) -> Result<(), LlmError> {
        let file = MappedFile::open(path).map_err(|source| LlmError::Read {
            path: path.to_owned(),
            source,
        })?;
        let unusable = |problem: String| LlmError::InvalidFile {
            path: path.to_owned(),
            problem,
        };
        let (header_len, header) =
            SafeTensors::read_metadata(&file).map_err(|error| unusable(error.to_string()))?;
        let first_byte = header_len + size_of::<u64>();
        for (name, tensor) in header.tensors() {
            let Some(known) = names::translate(&name, self.hyperparameters.architecture) else {
                if !names::is_implied(&name) {
                    self.unknown.push(name);
                }
                continue;
            };
            if is_tied && known == names::OUTPUT {
                continue;
            }
            let invalid = |problem: String| LlmError::InvalidTensor {
                tensor: name.clone(),
                problem,
            };
            let dtype = match tensor.dtype {
                Dtype::F32 => GgmlDType::F32,
                Dtype::F16 => GgmlDType::F16,
                Dtype::BF16 => GgmlDType::BF16,
                other => {
                    return Err(invalid(format!(
                        "is stored as {other:?}, but only F32, F16 and BF16 can be computed with"
                    )));
                }
            };
            if tensor.shape.is_empty() || tensor.shape.contains(&0) {
                return Err(invalid(format!("has the shape {:?}", tensor.shape)));
            }
            let (start, end) = tensor.data_offsets;
            let entry = Entry {
                shape: tensor.shape.clone(),
                dtype,
                bytes: Bytes::Mapped {
                    file: self.files.len(),
                    range: first_byte + start..first_byte + end,
                },
            };
            if self.tensors.insert(known, entry).is_some() {
                return Err(invalid("is there twice".to_owned()));
            }
        }
        self.files.push(file);
        Ok(())
    }
}

impl Checkpoint for ModelFolder {
    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let entry = self.tensors.get(name)?;
        Some(StoredTensor {
            shape: &entry.shape,
            dtype: entry.dtype,
            bytes: match &entry.bytes {
                Bytes::Mapped { file, range } => &self.files[*file][range.clone()],
                Bytes::Own(bytes) => bytes,
            },
        })
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        let names = self.tensors.keys().chain(&self.unknown);
        Box::new(names.map(String::as_str))
    }

    fn release(&self, bytes: &[u8]) {
        self.files.iter().for_each(|file| file.release(bytes));
    }

    fn name_in_file(&self, name: &str) -> String {
        let original = names::original(name, self.hyperparameters.architecture);
        original.unwrap_or_else(|| name.to_owned())
    }
}

/// The names of the files with weights: the one, or those that the index lists.
fn weight_files(dir: &Path) -> Result<BTreeSet<String>, LlmError> {
    const SINGLE: &str = "model.safetensors";
    if dir.join(SINGLE).exists() {
        return Ok([SINGLE.to_owned()].into());
    }
    let path = dir.join("model.safetensors.index.json");
    let unusable = |problem: &str| LlmError::InvalidFile {
        path: path.clone(),
        problem: problem.to_owned(),
    };
    let index = required_json(&path)?;
    let map = index["weight_map"]
        .as_object()
        .ok_or_else(|| unusable("it has no weight_map"))?;
    let mut files = BTreeSet::new();
    for file in map.values() {
        let file = file
            .as_str()
            .ok_or_else(|| unusable("its weight_map has what is no file name"))?;
        let mut parts = Path::new(file).components();
        match (parts.next(), parts.next()) {
            (Some(Component::Normal(_)), None) => files.insert(file.to_owned()),
            _ => return Err(unusable("its weight_map leaves the folder")),
        };
    }
    if files.is_empty() {
        return Err(unusable("its weight_map is empty"));
    }
    Ok(files)
}

fn required_json(path: &Path) -> Result<Value, LlmError> {
    let read = |source| LlmError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::metadata(path).map_err(read)?;
    if !file.is_file() {
        return Err(read(ErrorKind::InvalidInput.into()));
    }
    let unusable = |problem| LlmError::InvalidFile {
        path: path.to_owned(),
        problem,
    };
    if file.len() > MAX_JSON_BYTES {
        return Err(unusable(format!("it has more than {MAX_JSON_BYTES} bytes")));
    }
    let text = std::fs::read(path).map_err(read)?;
    serde_json::from_slice(&text).map_err(|error| unusable(error.to_string()))
}
