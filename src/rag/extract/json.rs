//! JSON as lines that can be read and found alone: every value with the path to it, records on one line.

use serde_json::{Map, Value};

use super::protocol::Refusal;
use super::reader::Whole;
use super::table::on_one_line;
use super::text;
use super::writer::Writer;

/// A record or list that is longer as one line is taken apart.
const MAX_LINE_BYTES: usize = 1000;

/// What cannot be parsed, as JSON with comments, is shown as it stands.
pub fn open(bytes: &[u8]) -> Result<Whole, Refusal> {
    let source = text::decode(bytes);
    let mut writer = Writer::default();
    match serde_json::from_str::<Value>(&source) {
        Ok(value) => write(&value, "", &mut writer),
        Err(_) => writer.paragraph(&source),
    }
    whole(writer)
}

/// One value a line.
pub fn open_lines(bytes: &[u8]) -> Result<Whole, Refusal> {
    let source = text::decode(bytes);
    let mut writer = Writer::default();
    for line in source.lines().filter(|line| !line.trim().is_empty()) {
        match serde_json::from_str::<Value>(line) {
            Ok(value) => match one_line(&value) {
                Some(record) => writer.line(&record),
                None => {
                    writer.end_block();
                    write(&value, "", &mut writer);
                    writer.end_block();
                }
            },
            Err(_) => writer.line(line),
        }
        if writer.is_full() {
            break;
        }
    }
    whole(writer)
}

fn whole(writer: Writer) -> Result<Whole, Refusal> {
    let content = writer.finish()?;
    match content.text.is_empty() {
        true => Err(Refusal::NoText("there are no values in it".to_owned())),
        false => Ok(Whole::new(None, content)),
    }
}

fn write(value: &Value, path: &str, writer: &mut Writer) {
    if writer.is_full() {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let path = match path {
                    "" => key.clone(),
                    path => format!("{path}.{key}"),
                };
                write(value, &path, writer);
            }
        }
        Value::Array(items) => match list(items) {
            Some(list) => writer.line(&labelled(path, &list)),
            None => {
                writer.end_block();
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    match one_line(item) {
                        Some(record) => writer.line(&labelled(&path, &record)),
                        None => {
                            writer.end_block();
                            write(item, &path, writer);
                        }
                    }
                }
                writer.end_block();
            }
        },
        scalar => writer.line(&labelled(path, &shown(scalar))),
    }
}

/// A record of plain values, or a plain value.
fn one_line(value: &Value) -> Option<String> {
    let line = match value {
        Value::Object(fields) => record(fields)?,
        Value::Array(_) => return None,
        scalar => shown(scalar),
    };
    (line.len() <= MAX_LINE_BYTES).then_some(line)
}

fn record(fields: &Map<String, Value>) -> Option<String> {
    let fields = fields.iter().map(|(key, value)| match value {
        Value::Object(_) => None,
        Value::Array(items) => Some(format!("{key}: {}", list(items)?)),
        scalar => Some(format!("{key}: {}", shown(scalar))),
    });
    Some(fields.collect::<Option<Vec<_>>>()?.join(" | "))
}

/// A short list of plain values.
fn list(items: &[Value]) -> Option<String> {
    let mut line = String::new();
    for item in items {
        if matches!(item, Value::Object(_) | Value::Array(_)) || line.len() > MAX_LINE_BYTES {
            return None;
        }
        if !line.is_empty() {
            line.push_str(", ");
        }
        line.push_str(&shown(item));
    }
    Some(line)
}

fn shown(scalar: &Value) -> String {
    match scalar {
        Value::String(words) if words.len() <= MAX_LINE_BYTES => on_one_line(words),
        Value::String(words) => words.clone(),
        other => other.to_string(),
    }
}

fn labelled(path: &str, value: &str) -> String {
    match path {
        "" => value.to_owned(),
        path => format!("{path}: {value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::Reader;
    use super::*;

    fn text_of(result: Result<Whole, Refusal>) -> String {
        result.expect("read").page(1).expect("read").text
    }

    #[test]
    fn values_stand_with_their_paths() {
        let source = br#"{"name":"Ferry","open":true,"fares":[{"who":"adult","price":14.5},{"who":"child","price":7}],
            "harbour":{"city":"Grauholm","pier":[1,2]},"crew":[{"name":"Bo","kin":{"son":"Al"}}],"none":null}"#;
        assert_eq!(
            text_of(open(source)),
            "name: Ferry\nopen: true\n\nfares[0]: who: adult | price: 14.5\nfares[1]: who: child | price: 7\n\n\
             harbour.city: Grauholm\nharbour.pier: 1, 2\n\ncrew[0].name: Bo\ncrew[0].kin.son: Al\n\nnone: null"
        );
    }

    #[test]
    fn lines_are_records_and_what_is_no_json_stays() {
        assert_eq!(
            text_of(open_lines(
                b"{\"a\":1,\"b\":[1,2]}\nnot json\n\n{\"c\":{\"d\":\"x\"}}\n"
            )),
            "a: 1 | b: 1, 2\nnot json\n\nc.d: x"
        );
        assert_eq!(text_of(open(b"{ // remark\n}")), "{ // remark\n}");
        let deep = "[".repeat(100_000);
        assert_eq!(text_of(open(deep.as_bytes())), deep);
    }
}
