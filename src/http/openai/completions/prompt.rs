//! What a text is to go on from: words, token ids, a hole between two texts, or nothing.

use serde_json::Value;
use utoipa::openapi::schema::{Array, Object, OneOf, Schema, Type};

use crate::http::error::ApiError;
use crate::rag::generate::ChatModel;

/// Prompts that one request may carry.
const MAX_PROMPTS: usize = 16;

/// The schema of what [`prompts`] reads.
pub fn schema() -> Schema {
    let text = || Object::with_type(Type::String);
    let ids = || {
        let id = Object::builder()
            .schema_type(Type::Integer)
            .minimum(Some(0));
        Array::builder().items(id).min_items(Some(1))
    };
    let each = OneOf::builder().item(text()).item(ids());
    let several = Array::builder()
        .items(each)
        .min_items(Some(1))
        .max_items(Some(MAX_PROMPTS));
    let all = OneOf::builder()
        .item(Object::with_type(Type::Null))
        .item(text())
        .item(ids())
        .item(several);
    all.description(Some(
        "One text or several, each in words or in token ids; nothing is an empty text.",
    ))
    .into()
}

#[derive(Debug, PartialEq)]
pub enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
    /// The text between two others is wanted.
    Hole {
        prefix: String,
        suffix: String,
    },
}

/// What the model reads, and the same as text.
pub struct Read {
    pub tokens: Vec<u32>,
    pub text: String,
}

impl Prompt {
    /// Takes the longer, the longer the prompt: not for a thread that serves.
    pub fn read(self, chat: &ChatModel) -> Result<Read, ApiError> {
        match self {
            Prompt::Text(text) => {
                let tokens = match chat.plain_prompt(&text) {
                    tokens if tokens.is_empty() => vec![beginning(chat)?],
                    tokens => tokens,
                };
                Ok(Read { tokens, text })
            }
            Prompt::Tokens(tokens) => {
                let vocab_size = chat.tokenizer().vocab_size();
                if let Some(id) = tokens.iter().find(|id| **id as usize >= vocab_size) {
                    let message = format!(
                        "prompt has token {id}, but the vocabulary has {vocab_size} tokens"
                    );
                    return Err(ApiError::invalid("prompt", message));
                }
                let text = chat.tokenizer().decode(&tokens);
                Ok(Read { tokens, text })
            }
            Prompt::Hole { prefix, suffix } => match chat.infill_prompt(&prefix, &suffix) {
                Some(tokens) => Ok(Read {
                    tokens,
                    text: prefix,
                }),
                None => {
                    let message = format!(
                        "the model '{}' cannot fill in the middle: its vocabulary has no tokens for it, such as \
                         <|fim_prefix|>; leave out suffix, or ask a model that was trained on code",
                        chat.id()
                    );
                    Err(ApiError::unsupported("suffix", message))
                }
            },
        }
    }
}

/// The token that a text begins with which goes on from nothing.
fn beginning(chat: &ChatModel) -> Result<u32, ApiError> {
    let tokenizer = chat.tokenizer();
    let token = tokenizer.bos().or_else(|| tokenizer.id_of("<|endoftext|>"));
    token.ok_or_else(|| {
        let message = "prompt is empty, but this model has no token that begins a text; send one word at least";
        ApiError::invalid("prompt", message)
    })
}

/// `"text"`, `["text", ...]`, `[ids]` or `[[ids], ...]`; nothing is an empty text.
pub fn prompts(value: Option<Value>, suffix: Option<String>) -> Result<Vec<Prompt>, ApiError> {
    let wrong = || {
        ApiError::invalid(
            "prompt",
            "prompt must be a string, an array of strings, or token ids",
        )
    };
    let tokens = |items: &[Value]| -> Result<Prompt, ApiError> {
        let id = |item: &Value| {
            item.as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(wrong)
        };
        let ids: Vec<u32> = items.iter().map(id).collect::<Result<_, _>>()?;
        match ids.is_empty() {
            true => Err(ApiError::invalid(
                "prompt",
                "prompt has an empty list of token ids",
            )),
            false => Ok(Prompt::Tokens(ids)),
        }
    };
    let prompts = match value {
        None => vec![Prompt::Text(String::new())],
        Some(Value::String(text)) => vec![Prompt::Text(text)],
        Some(Value::Array(items)) if items.first().is_some_and(Value::is_number) => {
            vec![tokens(&items)?]
        }
        Some(Value::Array(items)) => {
            let prompt = |item: Value| match item {
                Value::String(text) => Ok(Prompt::Text(text)),
                Value::Array(ids) => tokens(&ids),
                _ => Err(wrong()),
            };
            items.into_iter().map(prompt).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(wrong()),
    };
    if prompts.is_empty() || prompts.len() > MAX_PROMPTS {
        let message = format!(
            "prompt has {} texts, but must have 1 to {MAX_PROMPTS}",
            prompts.len()
        );
        return Err(ApiError::invalid("prompt", message));
    }
    let Some(suffix) = suffix.filter(|suffix| !suffix.is_empty()) else {
        return Ok(prompts);
    };
    let hole = |prompt| match prompt {
        Prompt::Text(prefix) => Ok(Prompt::Hole {
            prefix,
            suffix: suffix.clone(),
        }),
        _ => Err(ApiError::invalid(
            "suffix",
            "suffix needs a prompt of text, not of token ids",
        )),
    };
    prompts.into_iter().map(hole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn prompts_come_as_texts_and_as_ids_and_not_at_all() {
        let text = |text: &str| Prompt::Text(text.into());
        let cases = [
            (None, vec![text("")]),
            (Some(json!("a")), vec![text("a")]),
            (Some(json!(["a", "b"])), vec![text("a"), text("b")]),
            (Some(json!([1, 2])), vec![Prompt::Tokens(vec![1, 2])]),
            (
                Some(json!([[1], "b"])),
                vec![Prompt::Tokens(vec![1]), text("b")],
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(prompts(value.clone(), None).unwrap(), expected, "{value:?}");
        }
        for value in [
            json!([]),
            json!([[]]),
            json!([1, -2]),
            json!([1.5]),
            json!({}),
            json!([null]),
        ] {
            assert!(prompts(Some(value.clone()), None).is_err(), "{value}");
        }
    }

    #[test]
    fn a_suffix_makes_a_hole_of_texts_only() {
        let suffix = || Some("after".to_owned());
        let hole = prompts(Some(json!("before")), suffix()).unwrap();
        assert_eq!(
            hole,
            [Prompt::Hole {
                prefix: "before".into(),
                suffix: "after".into()
            }]
        );
        assert!(prompts(Some(json!([1])), suffix()).is_err());
        let empty = prompts(Some(json!([1])), Some(String::new())).unwrap();
        assert_eq!(empty, [Prompt::Tokens(vec![1])]);
    }
}
