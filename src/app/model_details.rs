//! What is said of a model before it is loaded: its size, its family, how its weights are stored. Reads headers, never
//! weights.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde_json::Value;

use super::library::size_on_disk;
use crate::llm::gguf::GgufFile;
use crate::rag::models::ModelDetails;

/// Headers with a large vocabulary take a while to read, and clients ask for all models again and again: what was read
/// stays until the file changes.
#[derive(Default)]
pub struct DetailsCache {
    /// Bounded by the models on this machine.
    read: Mutex<HashMap<PathBuf, ModelDetails>>,
}

impl DetailsCache {
    pub fn details(&self, path: &Path) -> anyhow::Result<ModelDetails> {
        let (num_bytes, modified_at) = (size_on_disk(path)?, modified_at(path)?);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(details) = read.get(path)
            && (details.num_bytes, details.modified_at) == (num_bytes, modified_at)
        {
            return Ok(details.clone());
        }
        let unknown = ModelDetails {
            num_bytes,
            modified_at,
            format: "safetensors",
            architecture: None,
            num_parameters: None,
            quantization: None,
            chat_template: None,
        };
        let details = match path.is_dir() {
            true => of_folder(path, unknown),
            false => of_gguf(&GgufFile::open(path)?, unknown),
        };
        read.insert(path.to_owned(), details.clone());
        Ok(details)
    }
}

/// Of a folder, that of the configuration: the folder itself may hold other things.
fn modified_at(path: &Path) -> std::io::Result<SystemTime> {
    let config = path.join("config.json");
    let path = if path.is_dir() { &config } else { path };
    std::fs::metadata(path)?.modified()
}

fn of_gguf(file: &GgufFile, unknown: ModelDetails) -> ModelDetails {
    let metadata = file.metadata();
    let text = |key: &str| metadata.string(key).map(str::to_owned);
    let num_values = |shape: &[usize]| shape.iter().map(|size| *size as u64).product::<u64>();
    ModelDetails {
        format: "gguf",
        architecture: text("general.architecture"),
        num_parameters: Some(file.tensors().map(|it| num_values(&it.shape)).sum()),
        quantization: metadata
            .u64("general.file_type")
            .and_then(file_type)
            .or_else(|| most_common_type(file)),
        chat_template: text("tokenizer.chat_template"),
        ..unknown
    }
}

/// `general.file_type` in words, by the GGUF specification.
fn file_type(number: u64) -> Option<String> {
    let name = match number {
        0 => "F32",
        1 => "F16",
        2 => "Q4_0",
        3 => "Q4_1",
        7 => "Q8_0",
        8 => "Q5_0",
        9 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K_S",
        12 => "Q3_K_M",
        13 => "Q3_K_L",
        14 => "Q4_K_S",
        15 => "Q4_K_M",
        16 => "Q5_K_S",
        17 => "Q5_K_M",
        18 => "Q6_K",
        32 => "BF16",
        _ => return None,
    };
    Some(name.to_owned())
}

/// The type that takes the most room.
fn most_common_type(file: &GgufFile) -> Option<String> {
    let mut sizes: HashMap<String, usize> = HashMap::new();
    for tensor in file.tensors() {
        *sizes.entry(format!("{:?}", tensor.dtype)).or_default() += tensor.num_bytes();
    }
    let largest = sizes.into_iter().max_by_key(|(_, num_bytes)| *num_bytes);
    largest.map(|(name, _)| name)
}

fn of_folder(path: &Path, unknown: ModelDetails) -> ModelDetails {
    let json = |file: &str| -> Value {
        let text = std::fs::read(path.join(file)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    };
    let config = json("config.json");
    let stored = config["dtype"].as_str().or(config["torch_dtype"].as_str());
    let (quantization, num_bytes) = match stored {
        Some("bfloat16") => ("BF16", 2),
        Some("float16") => ("F16", 2),
        _ => ("F32", 4),
    };
    let template = std::fs::read_to_string(path.join("chat_template.jinja")).ok();
    let in_config = || {
        Some(
            json("tokenizer_config.json")["chat_template"]
                .as_str()?
                .to_owned(),
        )
    };
    ModelDetails {
        architecture: config["model_type"].as_str().map(str::to_owned),
        num_parameters: stored.map(|_| unknown.num_bytes / num_bytes),
        quantization: stored.map(|_| quantization.to_owned()),
        chat_template: template.or_else(in_config),
        ..unknown
    }
}
