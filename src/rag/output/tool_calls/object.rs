//! Reads the JSON object of one call, `{"name": .., "arguments": {..}}` with its keys in any order, and tells the
//! arguments while they are being written.

use super::arguments::{ValueFlow, ValueReader};

#[derive(Debug, Clone, Default)]
pub(super) struct ObjectReader {
    state: State,
    is_named: bool,
    has_arguments: bool,
    /// Arguments that were written before the name.
    early: String,
}

#[derive(Debug, Clone, Default)]
enum State {
    /// Where a key, or the end, may come.
    #[default]
    BeforeKey,
    Key(ValueReader, String),
    Colon(Field),
    Value(Field, ValueReader, String),
    AfterValue,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Field {
    Name,
    Arguments,
    /// Such as an id.
    Other,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Name(String),
    Arguments(String),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ObjectFlow {
    Goes,
    /// With this character.
    Ended,
    /// Before this character, which is not part of the object.
    EndedBefore,
    /// It is no call.
    Broken,
}

impl ObjectReader {
    pub fn is_named(&self) -> bool {
        self.is_named
    }

    /// Takes the next character after the opening brace. Never `Broken` once the name has been told.
    pub fn push(&mut self, next: char, names: &[String], parts: &mut Vec<Part>) -> ObjectFlow {
        match &mut self.state {
            State::BeforeKey => match next {
                _ if next.is_whitespace() => ObjectFlow::Goes,
                '"' => {
                    let mut key = ValueReader::default();
                    key.push(next, &mut String::new());
                    self.state = State::Key(key, String::new());
                    ObjectFlow::Goes
                }
                '}' => self.end(ObjectFlow::Ended, parts),
                _ => self.end(ObjectFlow::EndedBefore, parts),
            },
            State::Key(reader, key) => {
                if reader.push(next, key) == ValueFlow::Ended {
                    let field = match key.as_str() {
                        "name" => Field::Name,
                        "arguments" | "parameters" => Field::Arguments,
                        "id" | "type" => Field::Other,
                        _ if self.is_named => Field::Other,
                        // Some other JSON, as answers may be.
                        _ => return ObjectFlow::Broken,
                    };
                    self.state = State::Colon(field);
                }
                ObjectFlow::Goes
            }
            State::Colon(field) => match next {
                ':' => {
                    self.state = State::Value(*field, ValueReader::default(), String::new());
                    ObjectFlow::Goes
                }
                _ if next.is_whitespace() => ObjectFlow::Goes,
                _ => self.end(ObjectFlow::EndedBefore, parts),
            },
            State::Value(field, reader, text) => {
                let flow = reader.push(next, text);
                let (field, is_string) = (*field, reader.is_string());
                let text = match field {
                    // Arguments are told as they come.
                    Field::Arguments => std::mem::take(text),
                    _ if flow == ValueFlow::Goes => return ObjectFlow::Goes,
                    _ => std::mem::take(text),
                };
                match field {
                    Field::Name if !is_string || !names.contains(&text) => {
                        if !self.is_named {
                            return ObjectFlow::Broken;
                        }
                    }
                    Field::Name => self.tell_name(text, parts),
                    Field::Arguments => self.tell_arguments(text, parts),
                    Field::Other => {}
                }
                match flow {
                    ValueFlow::Goes => ObjectFlow::Goes,
                    ValueFlow::Ended => {
                        self.state = State::AfterValue;
                        ObjectFlow::Goes
                    }
                    ValueFlow::EndedBefore => {
                        self.state = State::AfterValue;
                        self.push(next, names, parts)
                    }
                }
            }
            State::AfterValue => match next {
                _ if next.is_whitespace() => ObjectFlow::Goes,
                ',' => {
                    self.state = State::BeforeKey;
                    ObjectFlow::Goes
                }
                '}' => self.end(ObjectFlow::Ended, parts),
                _ => self.end(ObjectFlow::EndedBefore, parts),
            },
        }
    }

    fn tell_name(&mut self, name: String, parts: &mut Vec<Part>) {
        // A second name does not make a second call.
        if self.is_named {
            return;
        }
        self.is_named = true;
        parts.push(Part::Name(name));
        if !self.early.is_empty() {
            parts.push(Part::Arguments(std::mem::take(&mut self.early)));
        }
    }

    fn tell_arguments(&mut self, text: String, parts: &mut Vec<Part>) {
        if text.is_empty() {
            return;
        }
        self.has_arguments = true;
        match self.is_named {
            true => parts.push(Part::Arguments(text)),
            false => self.early.push_str(&text),
        }
    }

    fn end(&self, flow: ObjectFlow, parts: &mut Vec<Part>) -> ObjectFlow {
        if !self.is_named {
            return ObjectFlow::Broken;
        }
        if !self.has_arguments {
            parts.push(Part::Arguments("{}".into()));
        }
        flow
    }
}
