//! What the files of a model folder say about it, checked: the architecture (config.json) and how sentence-transformers
//! uses it (modules.json and what it names). Nothing here is guessed; what a file leaves open stays `None`.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::fused::Activation;
use super::{EmbeddingError, Pooling};

/// No dimension of a real encoder comes near; keeps every product of two of them within range.
const MAX_DIMENSION: usize = 1 << 24;

/// The shape of the encoder.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Architecture {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_heads: usize,
    pub num_layers: usize,
    pub intermediate_size: usize,
    pub num_positions: usize,
    /// The position of the first token: 0, but the padding token's id plus one in the RoBERTa family.
    pub first_position: usize,
    pub num_token_types: usize,
    pub activation: Activation,
    pub layer_norm_epsilon: f32,
}

/// What the sentence-transformers files say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SentenceSettings {
    pub pooling: Option<Pooling>,
    pub normalize: Option<bool>,
    /// The smallest limit that a file gives.
    pub max_tokens: Option<usize>,
    pub query_instruction: Option<String>,
    pub passage_instruction: Option<String>,
}

impl Architecture {
    pub(super) fn read(dir: &Path) -> Result<Architecture, EmbeddingError> {
        #[derive(Deserialize)]
        struct File {
            model_type: Option<String>,
            vocab_size: usize,
            hidden_size: usize,
            num_attention_heads: usize,
            num_hidden_layers: usize,
            intermediate_size: usize,
            max_position_embeddings: usize,
            type_vocab_size: usize,
            hidden_act: String,
            layer_norm_eps: f64,
            pad_token_id: Option<usize>,
            position_embedding_type: Option<String>,
        }
        let path = dir.join("config.json");
        let file: File = parse(&path, &read(&path)?)?;
        let invalid = |reason: String| EmbeddingError::InvalidFile {
            path: path.clone(),
            reason,
        };
        let unsupported = |reason: String| EmbeddingError::Unsupported { reason };

        let model_type = file.model_type.as_deref().unwrap_or("bert");
        let first_position = match model_type {
            "bert" => 0,
            "roberta" | "xlm-roberta" => file.pad_token_id.unwrap_or(1).saturating_add(1),
            other => {
                return Err(unsupported(format!(
                    "its architecture is {other:?}; bert, roberta and xlm-roberta can be run"
                )));
            }
        };
        if let Some(kind) = file
            .position_embedding_type
            .filter(|kind| kind != "absolute")
        {
            return Err(unsupported(format!(
                "its position embeddings are {kind:?}; only absolute ones can be run"
            )));
        }
        let activation = match file.hidden_act.as_str() {
            "gelu" => Activation::Gelu,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
            "relu" => Activation::Relu,
            other => {
                return Err(unsupported(format!(
                    "its activation is {other:?}; gelu, gelu_new and relu can be run"
                )));
            }
        };
        for (name, value) in [
            ("vocab_size", file.vocab_size),
            ("hidden_size", file.hidden_size),
            ("num_attention_heads", file.num_attention_heads),
            ("num_hidden_layers", file.num_hidden_layers),
            ("intermediate_size", file.intermediate_size),
            ("max_position_embeddings", file.max_position_embeddings),
            ("type_vocab_size", file.type_vocab_size),
        ] {
            if !(1..=MAX_DIMENSION).contains(&value) {
                return Err(invalid(format!("{name} is {value}")));
            }
        }
        if !file.hidden_size.is_multiple_of(file.num_attention_heads) {
            return Err(invalid(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                file.hidden_size, file.num_attention_heads
            )));
        }
        if first_position >= file.max_position_embeddings {
            return Err(invalid(format!(
                "pad_token_id leaves no position out of {}",
                file.max_position_embeddings
            )));
        }
        if !(0.0..=1.0).contains(&file.layer_norm_eps) {
            return Err(invalid(format!(
                "layer_norm_eps is {}",
                file.layer_norm_eps
            )));
        }
        Ok(Architecture {
            vocab_size: file.vocab_size,
            hidden_size: file.hidden_size,
            num_heads: file.num_attention_heads,
            num_layers: file.num_hidden_layers,
            intermediate_size: file.intermediate_size,
            num_positions: file.max_position_embeddings,
            first_position,
            num_token_types: file.type_vocab_size,
            activation,
            layer_norm_epsilon: file.layer_norm_eps as f32,
        })
    }
}

/// What follows the encoder of a cross-encoder: the layers between the first token's vector and the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScoreHead {
    /// The pooler of BERT, then a linear map.
    Pooler,
    /// The two linear maps of the RoBERTa family.
    DenseAndProjection,
}

impl ScoreHead {
    pub(super) fn read(dir: &Path) -> Result<ScoreHead, EmbeddingError> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            architectures: Vec<String>,
            id2label: Option<HashMap<String, serde_json::Value>>,
        }
        let path = dir.join("config.json");
        let file: File = parse(&path, &read(&path)?)?;
        let unsupported = |reason: String| Err(EmbeddingError::Unsupported { reason });
        let architecture = file.architectures.first().map_or("", String::as_str);
        let head = match architecture {
            "BertForSequenceClassification" => ScoreHead::Pooler,
            "RobertaForSequenceClassification" | "XLMRobertaForSequenceClassification" => {
                ScoreHead::DenseAndProjection
            }
            other => {
                return unsupported(format!(
                    "it is {other:?}, but a rerank model is a BertForSequenceClassification, \
                     RobertaForSequenceClassification or XLMRobertaForSequenceClassification"
                ));
            }
        };
        // Without the list there are two, as in the library that writes these files.
        match file.id2label.map_or(2, |labels| labels.len()) {
            1 => Ok(head),
            num_labels => unsupported(format!(
                "it tells {num_labels} labels apart, but a rerank model has one, the score"
            )),
        }
    }
}

impl SentenceSettings {
    pub(super) fn read(dir: &Path) -> Result<SentenceSettings, EmbeddingError> {
        let modules = Modules::read(dir)?;
        let (query_instruction, passage_instruction) = read_prompts(dir)?;
        Ok(SentenceSettings {
            pooling: read_pooling(&dir.join(&modules.pooling_folder).join("config.json"))?,
            normalize: modules.normalize,
            max_tokens: read_max_tokens(dir)?,
            query_instruction,
            passage_instruction,
        })
    }
}

/// What follows the encoder.
struct Modules {
    pooling_folder: PathBuf,
    normalize: Option<bool>,
}

impl Modules {
    fn read(dir: &Path) -> Result<Modules, EmbeddingError> {
        #[derive(Deserialize)]
        struct Module {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            path: String,
        }
        let path = dir.join("modules.json");
        let mut modules = Modules {
            pooling_folder: "1_Pooling".into(),
            normalize: None,
        };
        let Some(list) = read_optional::<Vec<Module>>(&path)? else {
            return Ok(modules);
        };
        modules.normalize = Some(false);
        for module in list {
            match module.kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" if module.path.is_empty() => {}
                "Pooling" => modules.pooling_folder = inner_folder(&path, &module.path)?,
                "Normalize" => modules.normalize = Some(true),
                _ => {
                    return Err(EmbeddingError::Unsupported {
                        reason: format!(
                            "modules.json asks for {:?} in {:?}; an encoder in the folder itself, Pooling and \
                             Normalize can be run",
                            module.kind, module.path
                        ),
                    });
                }
            }
        }
        Ok(modules)
    }
}

/// A folder named by a file of the model: it must lie in the model's own folder.
fn inner_folder(file: &Path, name: &str) -> Result<PathBuf, EmbeddingError> {
    let folder = PathBuf::from(name);
    let is_inside = folder
        .components()
        .all(|component| matches!(component, Component::Normal(_)));
    if !is_inside {
        return Err(EmbeddingError::InvalidFile {
            path: file.to_owned(),
            reason: format!("{name:?} is outside the model's folder"),
        });
    }
    Ok(folder)
}

fn read_pooling(path: &Path) -> Result<Option<Pooling>, EmbeddingError> {
    let Some(fields) = read_optional::<HashMap<String, serde_json::Value>>(path)? else {
        return Ok(None);
    };
    let unsupported = |modes: &[&str]| EmbeddingError::Unsupported {
        reason: format!(
            "it pools by {}; cls or mean can be run",
            if modes.is_empty() {
                "nothing".into()
            } else {
                modes.join(" and ")
            }
        ),
    };
    let mut modes: Vec<&str> = fields
        .iter()
        .filter(|(_, value)| **value == serde_json::Value::Bool(true))
        .filter_map(|(key, _)| key.strip_prefix("pooling_mode_"))
        .collect();
    if let Some(mode) = fields.get("pooling_mode").and_then(|mode| mode.as_str()) {
        modes.push(mode);
    }
    modes.sort_unstable();
    match modes[..] {
        ["cls_token"] | ["cls"] => Ok(Some(Pooling::Cls)),
        ["mean_tokens"] | ["mean"] => Ok(Some(Pooling::Mean)),
        _ => Err(unsupported(&modes)),
    }
}

/// The longest input that the files around the model name.
pub(super) fn read_max_tokens(dir: &Path) -> Result<Option<usize>, EmbeddingError> {
    #[derive(Deserialize)]
    struct SentenceBert {
        max_seq_length: Option<usize>,
    }
    #[derive(Deserialize)]
    struct TokenizerConfig {
        /// "No limit" is written as 10^30.
        model_max_length: Option<f64>,
    }
    let sentence_bert = read_optional::<SentenceBert>(&dir.join("sentence_bert_config.json"))?
        .and_then(|file| file.max_seq_length);
    let tokenizer = read_optional::<TokenizerConfig>(&dir.join("tokenizer_config.json"))?
        .and_then(|file| file.model_max_length)
        .filter(|length| (1.0..=MAX_DIMENSION as f64).contains(length))
        .map(|length| length as usize);
    Ok([sentence_bert, tokenizer].into_iter().flatten().min())
}

/// The shorter lengths that vectors may be cut to, in the file of sentence-transformers or of the model itself. Longest
/// first.
pub(super) fn read_matryoshka_dimensions(
    dir: &Path,
    hidden_size: usize,
) -> Result<Vec<usize>, EmbeddingError> {
    #[derive(Deserialize)]
    struct File {
        matryoshka_dimensions: Option<Vec<usize>>,
    }
    for name in ["config_sentence_transformers.json", "config.json"] {
        let path = dir.join(name);
        let file = read_optional::<File>(&path)?;
        let Some(mut dimensions) = file.and_then(|file| file.matryoshka_dimensions) else {
            continue;
        };
        if let Some(wrong) = dimensions
            .iter()
            .find(|it| !(1..=hidden_size).contains(*it))
        {
            return Err(EmbeddingError::InvalidFile {
                path,
                reason: format!(
                    "matryoshka_dimensions has {wrong}, but vectors have {hidden_size} dimensions"
                ),
            });
        }
        dimensions.sort_unstable_by(|a, b| b.cmp(a));
        return Ok(dimensions);
    }
    Ok(Vec::new())
}

/// The instructions for queries and passages.
fn read_prompts(dir: &Path) -> Result<(Option<String>, Option<String>), EmbeddingError> {
    #[derive(Deserialize)]
    struct File {
        prompts: Option<HashMap<String, String>>,
    }
    let path = dir.join("config_sentence_transformers.json");
    let mut prompts = read_optional::<File>(&path)?
        .and_then(|file| file.prompts)
        .unwrap_or_default();
    // The library writes empty prompts where the author gave none.
    prompts.retain(|_, prompt| !prompt.is_empty());
    let passage = prompts
        .remove("passage")
        .or_else(|| prompts.remove("document"));
    Ok((prompts.remove("query"), passage))
}

/// The bytes of a file that must exist.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, EmbeddingError> {
    std::fs::read(path).map_err(|error| EmbeddingError::Read {
        path: path.to_owned(),
        source: Arc::new(error),
    })
}

fn read_optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, EmbeddingError> {
    match read(path) {
        Err(EmbeddingError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok(None)
        }
        bytes => parse(path, &bytes?).map(Some),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, EmbeddingError> {
    serde_json::from_slice(bytes).map_err(|error| EmbeddingError::InvalidFile {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}
