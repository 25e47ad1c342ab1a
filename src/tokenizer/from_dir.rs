//! Builds the tokenizer of a folder in Hugging Face's layout.

use std::io::ErrorKind;
use std::path::Path;

use serde_json::Value;

use super::defuse::Defuser;
use super::huggingface::HuggingFace;
use super::vocabulary::Vocabulary;
use super::{ChatTemplate, Encoder, Inner, TokenizerError, end_tokens};

pub(super) fn load(dir: &Path) -> Result<Inner, TokenizerError> {
    let path = dir.join("tokenizer.json");
    let unusable = |problem| TokenizerError::TokenizerJson {
        path: path.clone(),
        problem,
    };
    let json = read_json(&path)?.ok_or_else(|| TokenizerError::Read {
        path: path.clone(),
        source: ErrorKind::NotFound.into(),
    })?;
    let encoder = HuggingFace::from_json(&json).map_err(unusable)?;
    let mut tokens = encoder.tokens().map_err(unusable)?;
    end_tokens::correct_kinds(&mut tokens);

    let config = read_json(&dir.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
    let id_of = |text: &str| {
        tokens
            .iter()
            .position(|token| token.text == text)
            .map(|id| id as u32)
    };
    let bos_text = special_text(&config, &["bos_token", "cls_token"]);
    let eos_text = special_text(&config, &["eos_token", "sep_token"]);
    let bos = bos_text.and_then(id_of);
    let chat_template = match chat_template_source(dir, &config)? {
        Some(source) => Some(ChatTemplate::new(
            &source,
            bos_text.unwrap_or_default(),
            eos_text.unwrap_or_default(),
        )?),
        None => None,
    };
    let mut declared_ends: Vec<u32> = eos_text.and_then(id_of).into_iter().collect();
    for file in ["generation_config.json", "config.json"] {
        let config = read_json(&dir.join(file))?.unwrap_or(Value::Null);
        declared_ends
            .extend(ids(&config["eos_token_id"]).filter(|&id| (id as usize) < tokens.len()));
    }
    let end_tokens = end_tokens::find(&tokens, declared_ends);
    let vocabulary = Vocabulary::new(tokens, |token| encoder.bytes_of(token));
    Ok(Inner {
        defuser: Defuser::new(vocabulary.control_spellings())?,
        vocabulary,
        bos,
        adds_bos: bos.is_some_and(|bos| encoder.adds_bos(bos)),
        end_tokens,
        chat_template,
        encoder: Encoder::HuggingFace(Box::new(encoder)),
    })
}

/// The file's content; `None` when there is no such file.
fn read(path: &Path) -> Result<Option<String>, TokenizerError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TokenizerError::Read {
            path: path.into(),
            source,
        }),
    }
}

fn read_json(path: &Path) -> Result<Option<Value>, TokenizerError> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    let json = serde_json::from_str(&text);
    json.map(Some).map_err(|source| TokenizerError::Json {
        path: path.into(),
        source,
    })
}

/// The spelling of the first of these tokens that the configuration names, plainly or as an object.
fn special_text<'a>(config: &'a Value, keys: &[&str]) -> Option<&'a str> {
    keys.iter().find_map(|&key| {
        config[key]
            .as_str()
            .or_else(|| config[key]["content"].as_str())
    })
}

/// One id or a list of ids.
fn ids(value: &Value) -> impl Iterator<Item = u32> {
    let values = match value {
        Value::Array(values) => values.as_slice(),
        value => std::slice::from_ref(value),
    };
    values
        .iter()
        .filter_map(|value| value.as_u64()?.try_into().ok())
}

/// A file of its own comes before the configuration, which may have several templates by name.
fn chat_template_source(dir: &Path, config: &Value) -> Result<Option<String>, TokenizerError> {
    if let Some(source) = read(&dir.join("chat_template.jinja"))? {
        return Ok(Some(source));
    }
    let source = match &config["chat_template"] {
        Value::Array(templates) => {
            let default = templates
                .iter()
                .find(|template| template["name"] == "default");
            default.and_then(|template| template["template"].as_str())
        }
        template => template.as_str(),
    };
    Ok(source.map(Into::into))
}
