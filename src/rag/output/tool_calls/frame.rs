//! Reads what stands between the opening of a call and its end, in each family's way. Keeps what it has read until it is
//! certain to be a call.

use super::arguments::{ValueFlow, ValueReader};
use super::object::{ObjectFlow, ObjectReader, Part};
use super::{HERMES_CLOSE, LLAMA_TAG, MISTRAL_ARGS, MISTRAL_CALL_ID, ToolFormat};
use crate::rag::output::OutputEvent;

#[derive(Debug, Clone)]
pub(super) struct Frame {
    format: ToolFormat,
    place: Place,
    /// What the answer says if this is no call.
    unread: String,
    /// Whether the call that is being read has been told.
    is_told: bool,
    /// Whether an object began it, without a mark around.
    is_bare: bool,
}

#[derive(Debug, Clone)]
enum Place {
    BeforeObject,
    Object(ObjectReader),
    /// After an object; with what may be the beginning of the closing mark.
    HermesEnd(String),
    /// After an object that no frame was around.
    BareEnd,
    MistralStart,
    /// After an item of the array.
    MistralItemEnd,
    MistralName(String),
    /// After the name, in a mark, and in what comes between two of them.
    MistralMark {
        name: String,
        mark: String,
    },
    MistralCallId {
        name: String,
        id: String,
    },
    MistralArguments(ValueReader),
}

/// What a character did.
#[derive(Debug)]
pub(super) enum Flow {
    Goes,
    /// A call is complete; `leftover` is to be read again.
    CallEnded {
        leftover: Option<char>,
    },
    /// The frame has ended, before `leftover`.
    Closed {
        leftover: String,
    },
    /// It is no call, but text; `leftover` is to be read again.
    Broken {
        text: String,
        leftover: Option<char>,
    },
}

impl Frame {
    /// A frame that `opener` has begun, after `blanks` that are left out before a call.
    pub fn new(format: ToolFormat, blanks: &str, opener: &str) -> Self {
        let place = match format {
            _ if opener == "{" => Place::Object(ObjectReader::default()),
            ToolFormat::MistralArray | ToolFormat::MistralArgs => Place::MistralStart,
            _ => Place::BeforeObject,
        };
        // This tag is a control token, which readers are not to see.
        let shown = if opener == LLAMA_TAG { "" } else { opener };
        Self {
            format,
            place,
            unread: format!("{blanks}{shown}"),
            is_told: false,
            is_bare: format == ToolFormat::Llama || opener == "{",
        }
    }

    /// The text that this is, when the answer ends here; `None` when it is a call.
    pub fn give_up(self) -> Option<String> {
        let is_after_call = matches!(
            self.place,
            Place::HermesEnd(_) | Place::BareEnd | Place::MistralItemEnd
        );
        (!self.is_told && !is_after_call).then_some(self.unread)
    }

    /// Takes the next character. `index` is the number of the call that is being read.
    pub fn push(
        &mut self,
        next: char,
        names: &[String],
        index: usize,
        events: &mut Vec<OutputEvent>,
    ) -> Flow {
        if !self.is_told {
            self.unread.push(next);
        }
        match &mut self.place {
            Place::BeforeObject => match next {
                _ if next.is_whitespace() => Flow::Goes,
                '{' => self.go(Place::Object(ObjectReader::default())),
                _ => self.broken(),
            },
            Place::Object(reader) => {
                let mut parts = Vec::new();
                let flow = reader.push(next, names, &mut parts);
                self.is_told = reader.is_named();
                events.extend(parts.into_iter().map(|part| event(part, index)));
                match flow {
                    ObjectFlow::Goes => Flow::Goes,
                    ObjectFlow::Ended => self.end_call(None),
                    ObjectFlow::EndedBefore => self.end_call(Some(next)),
                    ObjectFlow::Broken => self.broken(),
                }
            }
            Place::HermesEnd(mark) => {
                mark.push(next);
                if mark == HERMES_CLOSE {
                    return Flow::Closed {
                        leftover: String::new(),
                    };
                }
                if mark.trim_start().is_empty() {
                    mark.clear();
                    return Flow::Goes;
                }
                // Brackets that are one too many, as small models write.
                if mark == "}" {
                    mark.clear();
                    return Flow::Goes;
                }
                match HERMES_CLOSE.starts_with(mark.as_str()) {
                    true => Flow::Goes,
                    false => Flow::Closed {
                        leftover: std::mem::take(mark),
                    },
                }
            }
            Place::BareEnd => match next {
                _ if next.is_whitespace() || matches!(next, ';' | ',') => Flow::Goes,
                '{' => self.go(Place::Object(ObjectReader::default())),
                _ => Flow::Closed {
                    leftover: next.to_string(),
                },
            },
            Place::MistralStart => match next {
                _ if next.is_whitespace() => Flow::Goes,
                '[' => self.go(Place::BeforeObject),
                '{' => self.go(Place::Object(ObjectReader::default())),
                _ if is_of_name(next) => self.go(Place::MistralName(next.to_string())),
                _ => self.broken(),
            },
            Place::MistralItemEnd => match next {
                _ if next.is_whitespace() => Flow::Goes,
                ',' => self.go(Place::BeforeObject),
                ']' => Flow::Closed {
                    leftover: String::new(),
                },
                _ => Flow::Closed {
                    leftover: next.to_string(),
                },
            },
            Place::MistralName(name) => match next {
                _ if is_of_name(next) => {
                    name.push(next);
                    Flow::Goes
                }
                '[' => {
                    let (name, mark) = (std::mem::take(name), "[".to_owned());
                    self.go(Place::MistralMark { name, mark })
                }
                '{' => {
                    let name = std::mem::take(name);
                    self.begin_arguments(name, names, index, events, Some(next))
                }
                _ => self.broken(),
            },
            Place::MistralMark { name, mark } => {
                mark.push(next);
                if mark == MISTRAL_ARGS {
                    let name = std::mem::take(name);
                    return self.begin_arguments(name, names, index, events, None);
                }
                if mark == MISTRAL_CALL_ID {
                    let (name, id) = (std::mem::take(name), String::new());
                    return self.go(Place::MistralCallId { name, id });
                }
                let may_go =
                    MISTRAL_ARGS.starts_with(&*mark) || MISTRAL_CALL_ID.starts_with(&*mark);
                if may_go { Flow::Goes } else { self.broken() }
            }
            Place::MistralCallId { name, id } => match next {
                _ if is_of_name(next) && id.len() < 64 => {
                    id.push(next);
                    Flow::Goes
                }
                '[' => {
                    let (name, mark) = (std::mem::take(name), "[".to_owned());
                    self.go(Place::MistralMark { name, mark })
                }
                _ => self.broken(),
            },
            Place::MistralArguments(reader) => {
                let mut text = String::new();
                let flow = reader.push(next, &mut text);
                if !text.is_empty() {
                    events.push(event(Part::Arguments(text), index));
                }
                match flow {
                    ValueFlow::Goes => Flow::Goes,
                    ValueFlow::Ended => self.end_call(None),
                    ValueFlow::EndedBefore => self.end_call(Some(next)),
                }
            }
        }
    }

    fn go(&mut self, place: Place) -> Flow {
        self.place = place;
        Flow::Goes
    }

    fn begin_arguments(
        &mut self,
        name: String,
        names: &[String],
        index: usize,
        events: &mut Vec<OutputEvent>,
        first: Option<char>,
    ) -> Flow {
        if !names.contains(&name) {
            return self.broken();
        }
        events.push(event(Part::Name(name), index));
        self.is_told = true;
        let mut reader = ValueReader::default();
        if let Some(first) = first {
            let mut text = String::new();
            reader.push(first, &mut text);
            events.push(event(Part::Arguments(text), index));
        }
        self.go(Place::MistralArguments(reader))
    }

    fn end_call(&mut self, leftover: Option<char>) -> Flow {
        self.place = match self.format {
            ToolFormat::MistralArray | ToolFormat::MistralArgs => Place::MistralItemEnd,
            _ if self.is_bare => Place::BareEnd,
            _ => Place::HermesEnd(String::new()),
        };
        self.unread.clear();
        self.is_told = false;
        Flow::CallEnded { leftover }
    }

    fn broken(&mut self) -> Flow {
        let mut text = std::mem::take(&mut self.unread);
        let leftover = text.pop();
        Flow::Broken { text, leftover }
    }
}

fn event(part: Part, index: usize) -> OutputEvent {
    match part {
        Part::Name(name) => OutputEvent::ToolCall { index, name },
        Part::Arguments(fragment) => OutputEvent::ToolArguments { index, fragment },
    }
}

/// What names of functions, and ids of calls, are made of.
fn is_of_name(next: char) -> bool {
    next.is_ascii_alphanumeric() || matches!(next, '_' | '-' | '.')
}
