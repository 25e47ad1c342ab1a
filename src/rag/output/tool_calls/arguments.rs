//! Reads one JSON value, a character at a time, and gives out what is the text of a call's arguments. Follows brackets
//! and strings only: whether the value is valid is for the caller of the function to find out.

#[derive(Debug, Clone, Default)]
pub(super) struct ValueReader {
    kind: Kind,
    /// A string or a scalar, whose end decides what it means.
    buffered: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum Kind {
    #[default]
    Unknown,
    Container {
        depth: usize,
        is_in_string: bool,
        is_escaped: bool,
    },
    String {
        is_escaped: bool,
    },
    Scalar,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ValueFlow {
    Goes,
    /// With this character.
    Ended,
    /// Before this character, which is not part of the value.
    EndedBefore,
}

impl ValueReader {
    /// Whether the value is a JSON string, once it has begun.
    pub fn is_string(&self) -> bool {
        matches!(self.kind, Kind::String { .. })
    }

    /// Takes the next character. `text` gets an object or array as it is written, a string by what it says, `{}` for
    /// nothing.
    pub fn push(&mut self, next: char, text: &mut String) -> ValueFlow {
        match &mut self.kind {
            Kind::Unknown => self.begin(next, text),
            Kind::Container {
                depth,
                is_in_string,
                is_escaped,
            } => {
                if *is_in_string {
                    match next {
                        _ if *is_escaped => *is_escaped = false,
                        '\\' => *is_escaped = true,
                        '"' => *is_in_string = false,
                        _ => {}
                    }
                    text.push(next);
                    return ValueFlow::Goes;
                }
                match next {
                    '"' => *is_in_string = true,
                    '{' | '[' => *depth += 1,
                    '}' | ']' => *depth -= 1,
                    // No JSON has it here: the frame is being closed, and a bracket was forgotten.
                    '<' => return ValueFlow::EndedBefore,
                    _ => {}
                }
                text.push(next);
                match *depth {
                    0 => ValueFlow::Ended,
                    _ => ValueFlow::Goes,
                }
            }
            Kind::String { is_escaped } => {
                self.buffered.push(next);
                match next {
                    _ if *is_escaped => *is_escaped = false,
                    '\\' => *is_escaped = true,
                    '"' => {
                        let said: Result<String, _> = serde_json::from_str(&self.buffered);
                        text.push_str(&said.unwrap_or_default());
                        return ValueFlow::Ended;
                    }
                    _ => {}
                }
                ValueFlow::Goes
            }
            Kind::Scalar => match next {
                ',' | '}' | ']' | '<' | ';' => self.end_scalar(text),
                _ if next.is_whitespace() => self.end_scalar(text),
                _ => {
                    self.buffered.push(next);
                    ValueFlow::Goes
                }
            },
        }
    }

    fn begin(&mut self, next: char, text: &mut String) -> ValueFlow {
        match next {
            _ if next.is_whitespace() => return ValueFlow::Goes,
            '{' | '[' => {
                text.push(next);
                self.kind = Kind::Container {
                    depth: 1,
                    is_in_string: false,
                    is_escaped: false,
                };
            }
            '"' => {
                self.buffered.push(next);
                self.kind = Kind::String { is_escaped: false };
            }
            ',' | '}' | ']' | '<' | ';' => return ValueFlow::EndedBefore,
            _ => {
                self.buffered.push(next);
                self.kind = Kind::Scalar;
            }
        }
        ValueFlow::Goes
    }

    fn end_scalar(&mut self, text: &mut String) -> ValueFlow {
        text.push_str(match self.buffered.as_str() {
            "null" | "None" => "{}",
            scalar => scalar,
        });
        ValueFlow::EndedBefore
    }
}
