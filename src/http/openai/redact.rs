//! Takes out of what was kept what deleted files said: the texts of passages that a search found, and quotes. What is left
//! tells that something was cited, and from which file. Expired files count as deleted.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use crate::http::error::ApiError;
use crate::http::sse::event_text;
use crate::store::Store;

/// Stands for every character of a quote, so that places in the text stay what they are.
const BLACKENED: char = '\u{2588}';
/// Characters from which on a quote is taken out wherever it stands; a shorter one only between quotation marks.
const LONG_QUOTE: usize = 20;

/// `kept` without what deleted files said.
pub async fn without_deleted(store: &Store, kept: Value) -> Result<Value, ApiError> {
    let mut one = all_without_deleted(store, vec![kept]).await?;
    Ok(one.pop().unwrap_or_default())
}

pub async fn all_without_deleted(
    store: &Store,
    mut kept: Vec<Value>,
) -> Result<Vec<Value>, ApiError> {
    if let Some(deleted) = Deleted::in_values(store, &kept).await? {
        kept.iter_mut().for_each(|value| deleted.redact(value));
    }
    Ok(kept)
}

/// The same of events that were kept as they were sent.
pub async fn events_without_deleted(store: &Store, kept: String) -> Result<String, ApiError> {
    let events: Vec<(&str, Value)> = kept
        .split_inclusive("\n\n")
        .filter_map(|event| {
            let (kind, data) = event.strip_prefix("event: ")?.split_once("\ndata: ")?;
            Some((kind, serde_json::from_str(data.trim_end()).ok()?))
        })
        .collect();
    let (kinds, mut values): (Vec<&str>, Vec<Value>) = events.into_iter().unzip();
    let Some(deleted) = Deleted::in_values(store, &values).await? else {
        return Ok(kept);
    };
    values.iter_mut().for_each(|value| deleted.redact(value));
    let events = kinds.iter().zip(&values);
    Ok(events
        .map(|(kind, value)| event_text(kind, value))
        .collect())
}

/// The deleted files that something names, and what it quotes of them.
struct Deleted {
    file_ids: HashSet<String>,
    /// On one line, as quotes stand in answers.
    quotes: HashSet<String>,
}

impl Deleted {
    async fn in_values(store: &Store, values: &[Value]) -> Result<Option<Self>, ApiError> {
        let mut named = Vec::new();
        values.iter().for_each(|value| sources(value, &mut named));
        let ids: HashSet<&str> = named.iter().map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let live = store.live_files(ids.iter().map(|id| id.to_string()).collect());
        let live = live.await?;
        let file_ids = ids.into_iter().filter(|id| !live.contains(*id));
        let file_ids: HashSet<String> = file_ids.map(str::to_owned).collect();
        let quotes = named
            .iter()
            .filter(|(id, quote)| file_ids.contains(*id) && !quote.is_empty())
            .map(|(_, quote)| quote.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        Ok((!file_ids.is_empty()).then_some(Self { file_ids, quotes }))
    }

    fn redact(&self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact(item)),
            Value::Object(fields) => {
                let is_deleted = source(fields).is_some_and(|(id, _)| self.file_ids.contains(id));
                for (name, field) in fields.iter_mut() {
                    match field {
                        Value::String(text) if is_deleted && SAID.contains(&name.as_str()) => {
                            text.clear();
                        }
                        Value::String(text) if WRITTEN.contains(&name.as_str()) => {
                            self.blacken(text);
                        }
                        field => self.redact(field),
                    }
                }
                if is_deleted && fields.contains_key("heading_path") {
                    fields.insert("heading_path".into(), json!([]));
                }
            }
            _ => {}
        }
    }

    /// Every quote is looked for in the text as it was: one may be part of another.
    fn blacken(&self, text: &mut String) {
        let mut found = Vec::new();
        for quote in &self.quotes {
            let is_long = quote.chars().count() >= LONG_QUOTE;
            let searched = match is_long {
                true => quote.clone(),
                false => format!("\u{201c}{quote}\u{201d}"),
            };
            let places = text.match_indices(&searched);
            found.extend(places.map(|(start, _)| start..start + searched.len()));
        }
        if found.is_empty() {
            return;
        }
        let is_quoted = |at: usize| found.iter().any(|range| range.contains(&at));
        let blackened = text.char_indices().map(|(at, c)| match c {
            ' ' | '\u{201c}' | '\u{201d}' => c,
            _ if is_quoted(at) => BLACKENED,
            _ => c,
        });
        *text = blackened.collect();
    }
}

/// Fields of a source that say what its file says.
const SAID: &[&str] = &["text", "quote"];
/// Fields of answers, whole and in pieces.
const WRITTEN: &[&str] = &["text", "delta", "content"];

/// Every source in `value`: the id of its file, and its quote where it has one.
fn sources<'a>(value: &'a Value, found: &mut Vec<(&'a str, &'a str)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| sources(item, found)),
        Value::Object(fields) => {
            found.extend(source(fields));
            fields.values().for_each(|field| sources(field, found));
        }
        _ => {}
    }
}

/// A passage that was found, or a citation.
fn source(fields: &Map<String, Value>) -> Option<(&str, &str)> {
    let id = fields
        .get("file_id")?
        .as_str()
        .filter(|id| !id.is_empty())?;
    let quote = fields.get("quote").and_then(Value::as_str);
    let is_passage = fields.get("text").is_some_and(Value::is_string);
    (quote.is_some() || is_passage).then_some((id, quote.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_that_is_part_of_another_does_not_hide_it() {
        let long = "The tower was built in 1889. The tower is 330 metres tall.";
        let short = "The tower is 330 metres tall.";
        // Sets have no order: with one of two orders the longer one would stay.
        for _ in 0..20 {
            let deleted = Deleted {
                file_ids: HashSet::from(["file-1".to_owned()]),
                quotes: [long, short].map(str::to_owned).into(),
            };
            let mut kept = json!({ "text": format!("\u{201c}{long}\u{201d} [1] and \u{201c}{short}\u{201d} [2]") });
            deleted.redact(&mut kept);
            let text = kept["text"].as_str().unwrap();
            assert!(!text.contains("1889") && !text.contains("330"), "{text}");
            assert!(text.contains("[1] and") && text.ends_with("[2]"), "{text}");
        }
    }
}
