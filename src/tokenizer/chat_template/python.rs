//! The parts of Python that chat templates count on: how values are printed, `tojson`, `strftime`. Must not recurse
//! without a bound.

use std::fmt::Write;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use time::OffsetDateTime;

/// Deeper values are refused instead of exhausting the stack.
const MAX_DEPTH: usize = 100;

/// What a template said through `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Raised(pub String);

/// An environment that renders as transformers' does: block tags take their line with them, `{{ }}` prints as Python
/// does, and nothing is escaped.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build();
    environment.set_syntax(syntax.expect("the default delimiters are valid"));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.set_formatter(|out, _, value| out.write_str(&to_str(value)?).map_err(Error::from));
    environment.add_filter("tojson", tojson);
    environment.add_test("iterable", |value: &Value| {
        !matches!(
            value.kind(),
            ValueKind::None | ValueKind::Bool | ValueKind::Number
        )
    });
    environment.add_filter("indent", indent);
    environment.add_filter("string", |value: &Value| to_str(value));
    environment.add_function(
        "raise_exception",
        |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, "raise_exception")
                .with_source(Raised(message)))
        },
    );
    environment
}

/// `str(value)`.
fn to_str(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.into()),
        None if value.is_undefined() => Ok(String::new()),
        None => {
            let mut out = String::new();
            write_repr(&mut out, value, 0)?;
            Ok(out)
        }
    }
}

/// `repr(value)`.
fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    at_most("the depth of a value", depth, MAX_DEPTH)?;
    match value.kind() {
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => write_number(out, value),
        ValueKind::String => write_str_repr(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq => {
            out.push('[');
            for (i, item) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, &item, depth + 1)?;
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (i, key) in value.try_iter()?.enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_repr(out, &key, depth + 1)?;
                out.push_str(": ");
                write_repr(out, &value.get_item(&key)?, depth + 1)?;
            }
            out.push('}');
        }
        _ => write!(out, "{value}").expect("writing to a String does not fail"),
    }
    Ok(())
}

fn at_most(what: &str, value: usize, limit: usize) -> Result<usize, Error> {
    if value <= limit {
        return Ok(value);
    }
    let message = format!("{what} is {value}, but at most {limit} is allowed");
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn write_str_repr(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for char in text.chars() {
        match char {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            char if char == quote => out.extend(['\\', char]),
            char if char.is_control() => {
                write!(out, "\\x{:02x}", u32::from(char))
                    .expect("writing to a String does not fail");
            }
            char => out.push(char),
        }
    }
    out.push(quote);
}

fn write_number(out: &mut String, value: &Value) {
    if value.is_integer() {
        write!(out, "{value}").expect("writing to a String does not fail");
        return;
    }
    let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
    // Rust and Python agree on the shortest digits; they differ on when to use an exponent and on how to write it.
    let text = match number.abs() {
        _ if number.is_nan() => "nan".into(),
        magnitude if magnitude.is_infinite() => if number > 0.0 { "inf" } else { "-inf" }.into(),
        magnitude if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) => {
            let scientific = format!("{number:e}");
            let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
            let (sign, exponent) = exponent
                .strip_prefix('-')
                .map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        _ => format!("{number:?}"),
    };
    out.push_str(&text);
}

/// `json.dumps(value, ensure_ascii=False, ...)`, as transformers defines the filter.
fn tojson(value: &Value, indent: Option<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let indent = match indent {
        Some(indent) => Some(indent),
        None => kwargs.get::<Option<Value>>("indent")?,
    };
    let indent = match indent.filter(|indent| !indent.is_none()) {
        Some(indent) => Some(" ".repeat(at_most(
            "the indent of tojson",
            usize::try_from(indent)?,
            16,
        )?)),
        None => None,
    };
    let separators = match kwargs.get::<Option<Vec<String>>>("separators")?.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "separators must be a pair",
            ));
        }
        None => (
            if indent.is_some() { "," } else { ", " }.into(),
            ": ".into(),
        ),
    };
    let json = Json {
        indent,
        separators,
        is_ascii: kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sorts_keys: kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
    };
    kwargs.assert_all_used()?;
    let mut out = String::new();
    json.write(&mut out, value, 0)?;
    Ok(out)
}

struct Json {
    indent: Option<String>,
    /// Between items, and after a key.
    separators: (String, String),
    is_ascii: bool,
    sorts_keys: bool,
}

impl Json {
    fn write(&self, out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
        at_most("the depth of a value", depth, MAX_DEPTH)?;
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => write_number(out, value),
            ValueKind::String => self.write_string(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq => {
                let items: Vec<_> = value.try_iter()?.collect();
                self.write_items(out, ('[', ']'), &items, depth, |out, item| {
                    self.write(out, item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<_> = value.try_iter()?.collect();
                if self.sorts_keys {
                    keys.sort();
                }
                self.write_items(out, ('{', '}'), &keys, depth, |out, key| {
                    self.write_string(out, &to_str(key)?);
                    out.push_str(&self.separators.1);
                    self.write(out, &value.get_item(key)?, depth + 1)
                })?;
            }
            kind => {
                return Err(Error::new(
                    ErrorKind::InvalidOperation,
                    format!("{kind} cannot be written as JSON"),
                ));
            }
        }
        Ok(())
    }

    fn write_items(
        &self,
        out: &mut String,
        (open, close): (char, char),
        items: &[Value],
        depth: usize,
        write: impl Fn(&mut String, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        for (i, item) in items.iter().enumerate() {
            out.push_str(if i > 0 { &self.separators.0 } else { "" });
            self.write_line_break(out, depth + 1);
            write(out, item)?;
        }
        if !items.is_empty() {
            self.write_line_break(out, depth);
        }
        out.push(close);
        Ok(())
    }

    fn write_line_break(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    }

    fn write_string(&self, out: &mut String, text: &str) {
        out.push('"');
        for char in text.chars() {
            match char {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                char if char < ' ' || (self.is_ascii && !(' '..='~').contains(&char)) => {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}").expect("writing to a String does not fail");
                    }
                }
                char => out.push(char),
            }
        }
        out.push('"');
    }
}

/// Jinja2's filter. The engine's own one drops a line break at the end.
fn indent(
    text: &str,
    width: Option<Value>,
    first: Option<bool>,
    blank: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let width = match width {
        Some(width) => width,
        None => kwargs
            .get::<Option<Value>>("width")?
            .unwrap_or(Value::from(4)),
    };
    let first = first.or(kwargs.get("first")?).unwrap_or(false);
    let blank = blank.or(kwargs.get("blank")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    let indentation = match width.as_str() {
        Some(text) => text.into(),
        None => " ".repeat(at_most(
            "the width of indent",
            usize::try_from(width)?,
            256,
        )?),
    };
    let mut out = String::new();
    for (i, line) in text.replace("\r\n", "\n").split('\n').enumerate() {
        out.push_str(if i > 0 { "\n" } else { "" });
        if if i == 0 {
            first
        } else {
            blank || !line.is_empty()
        } {
            out.push_str(&indentation);
        }
        out.push_str(line);
    }
    Ok(out)
}

/// `datetime.now().strftime(format)` in the C locale, at the time given.
pub(super) fn strftime(now: OffsetDateTime, format: &str) -> String {
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            out.push(char);
            continue;
        }
        let mut directive = chars.next();
        // glibc's `%-d`: no padding.
        let is_padded = directive != Some('-');
        if !is_padded {
            directive = chars.next();
        }
        let number = |value: u16, width: usize| {
            if is_padded {
                format!("{value:0width$}")
            } else {
                value.to_string()
            }
        };
        let month = now.month().to_string();
        let weekday = now.weekday().to_string();
        let hour_of_12 = (now.hour() + 11) % 12 + 1;
        out.push_str(&match directive {
            Some('Y') => now.year().to_string(),
            Some('y') => number((now.year().rem_euclid(100)) as u16, 2),
            Some('m') => number(u8::from(now.month()).into(), 2),
            Some('d') => number(now.day().into(), 2),
            Some('e') if is_padded => format!("{:2}", now.day()),
            Some('e') => now.day().to_string(),
            Some('j') => number(now.ordinal(), 3),
            Some('H') => number(now.hour().into(), 2),
            Some('I') => number(hour_of_12.into(), 2),
            Some('M') => number(now.minute().into(), 2),
            Some('S') => number(now.second().into(), 2),
            Some('p') => if now.hour() < 12 { "AM" } else { "PM" }.into(),
            Some('B') => month,
            Some('b' | 'h') => month[..3].into(),
            Some('A') => weekday,
            Some('a') => weekday[..3].into(),
            Some('F') => format!(
                "{}-{:02}-{:02}",
                now.year(),
                u8::from(now.month()),
                now.day()
            ),
            Some('T') => format!("{:02}:{:02}:{:02}", now.hour(), now.minute(), now.second()),
            Some('Z') => "UTC".into(),
            Some('z') => "+0000".into(),
            Some('n') => "\n".into(),
            Some('t') => "\t".into(),
            Some('%') => "%".into(),
            Some(unknown) => format!("%{unknown}"),
            None => "%".into(),
        });
    }
    out
}
