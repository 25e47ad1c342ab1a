//! A model folder to a model, its tokenizer and its specification. The model's own files decide; the options fill what
//! they leave open.

use std::path::Path;
use std::sync::Arc;

use candle_core::Device;
use sha2::{Digest, Sha256};

use super::bert::BertModel;
use super::config::{Architecture, SentenceSettings, read, read_matryoshka_dimensions};
use super::tokenizer::FileTokenizer;
use super::weights::Weights;
use super::{
    EmbedderOptions, EmbedderSpec, EmbeddingError, EmbeddingTokenizer, Placement, Pooling,
};
use crate::kernels::mapped_file::MappedFile;

pub(super) struct Loaded {
    pub model: BertModel,
    pub tokenizer: FileTokenizer,
    pub spec: EmbedderSpec,
}

pub(super) fn load(dir: &Path, options: EmbedderOptions) -> Result<Loaded, EmbeddingError> {
    let architecture = Architecture::read(dir)?;
    let settings = SentenceSettings::read(dir)?;
    let name = options.name.unwrap_or_else(|| folder_name(dir));
    let pooling = settings
        .pooling
        .or(options.pooling)
        .unwrap_or_else(|| assumed_pooling(&name));
    let normalize = settings.normalize.unwrap_or(true);
    let passage_instruction = settings.passage_instruction.or(options.passage_instruction);

    let tokenizer_path = dir.join("tokenizer.json");
    let tokenizer_bytes = read(&tokenizer_path)?;
    let tokenizer =
        FileTokenizer::from_bytes(&tokenizer_bytes, &tokenizer_path, architecture.vocab_size)?;
    let num_positions = architecture.num_positions - architecture.first_position;
    let max_tokens = settings
        .max_tokens
        .map_or(num_positions, |max| max.min(num_positions));
    if max_tokens <= tokenizer.num_special_tokens() {
        return Err(EmbeddingError::Unsupported {
            reason: format!(
                "it reads {max_tokens} tokens, of which {} are special ones",
                tokenizer.num_special_tokens()
            ),
        });
    }

    let matryoshka_dimensions = read_matryoshka_dimensions(dir, architecture.hidden_size)?;

    let weights_path = dir.join("model.safetensors");
    let weights_bytes = MappedFile::open(&weights_path).map_err(|error| EmbeddingError::Read {
        path: weights_path.clone(),
        source: Arc::new(error),
    })?;
    let weights = Weights::new(&weights_bytes, &weights_path)?;
    let placement = Placement {
        device: options.device.unwrap_or(Device::Cpu),
        precision: options.precision,
    };
    let model = BertModel::load(&weights, &architecture, pooling, normalize, &placement)?;
    let num_parameters = weights.num_parameters();
    let memory_bytes = model.num_bytes();
    let settings_text = format!(
        "{architecture:?} {pooling:?} normalize={normalize} passage={:?}",
        passage_instruction.as_deref().unwrap_or("")
    );
    Ok(Loaded {
        model,
        tokenizer,
        spec: EmbedderSpec {
            name,
            dimensions: architecture.hidden_size,
            matryoshka_dimensions,
            max_tokens,
            pooling,
            normalize,
            query_instruction: settings.query_instruction.or(options.query_instruction),
            passage_instruction,
            model_hash: hash([&weights_bytes, &tokenizer_bytes, settings_text.as_bytes()]),
            num_parameters,
            memory_bytes,
        },
    })
}

/// bge models pool by their first token, whichever copy of the repository lacks the file that says so.
fn assumed_pooling(name: &str) -> Pooling {
    let pooling = match name.to_lowercase().contains("bge-") {
        true => Pooling::Cls,
        false => Pooling::Mean,
    };
    tracing::warn!(
        model = name,
        ?pooling,
        "the model's folder has no 1_Pooling/config.json: this pooling is an assumption"
    );
    pooling
}

pub(super) fn folder_name(dir: &Path) -> String {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    full.file_name().map_or_else(
        || "embedder".into(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// SHA-256 over the SHA-256 of each part, so that no byte can move from one part to the next unseen.
fn hash(parts: [&[u8]; 3]) -> String {
    let mut whole = Sha256::new();
    for part in parts {
        whole.update(Sha256::digest(part));
    }
    format!("{:x}", whole.finalize())
}
