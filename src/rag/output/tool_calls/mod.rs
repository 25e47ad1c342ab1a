//! Finds calls of functions in an answer, in the formats that model families were trained to write. Text before, between
//! and after calls is given out as soon as it cannot belong to one.

mod arguments;
mod frame;
mod object;

use super::{OutputEvent, ToolsRead, num_held};
use frame::{Flow, Frame};

/// How a family of models writes a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>{"name": .., "arguments": {..}}</tool_call>`, a frame a call: Hermes, Qwen.
    Hermes,
    /// `{"name": .., "parameters": {..}}` as the whole answer, with or without `<|python_tag|>`: Llama 3.
    Llama,
    /// `[TOOL_CALLS][{"name": .., "arguments": {..}}, ..]`: Mistral, up to 2024.
    MistralArray,
    /// `[TOOL_CALLS]name[ARGS]{..}`, again for each call: Mistral, from 2025.
    MistralArgs,
    /// As Hermes, taught by a system message of ours; a bare object at the start is understood too.
    Taught,
}

pub const HERMES_OPEN: &str = "<tool_call>";
pub const HERMES_CLOSE: &str = "</tool_call>";
pub const LLAMA_TAG: &str = "<|python_tag|>";
pub const MISTRAL_OPEN: &str = "[TOOL_CALLS]";
pub const MISTRAL_ARGS: &str = "[ARGS]";
pub const MISTRAL_CALL_ID: &str = "[CALL_ID]";

impl ToolFormat {
    /// The marks of the format that may be control tokens of a vocabulary.
    pub fn marks(self) -> &'static [&'static str] {
        match self {
            Self::Hermes | Self::Taught => &[HERMES_OPEN, HERMES_CLOSE],
            Self::Llama => &[LLAMA_TAG],
            Self::MistralArray | Self::MistralArgs => {
                &[MISTRAL_OPEN, MISTRAL_ARGS, MISTRAL_CALL_ID]
            }
        }
    }

    /// What opens a frame anywhere in an answer.
    fn openers(self) -> &'static [&'static str] {
        match self {
            Self::Hermes | Self::Taught => &[HERMES_OPEN],
            Self::MistralArray | Self::MistralArgs => &[MISTRAL_OPEN],
            Self::Llama => &[],
        }
    }

    /// What opens a frame at the start of an answer only.
    fn first_openers(self) -> &'static [&'static str] {
        match self {
            Self::Llama => &[LLAMA_TAG, "{"],
            Self::Taught => &["{"],
            Self::Hermes | Self::MistralArray | Self::MistralArgs => &[],
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct ToolCallReader {
    tools: ToolsRead,
    state: State,
    num_calls: usize,
}

#[derive(Debug, Clone)]
enum State {
    /// Text; the end of it is held back where a frame may begin, with the blanks before.
    Text {
        held: String,
        is_first: bool,
    },
    Frame(Box<Frame>),
    /// The only call has been made; whatever comes is not wanted.
    Complete,
}

impl ToolCallReader {
    pub fn new(tools: ToolsRead) -> Self {
        Self {
            tools,
            state: State::Text {
                held: String::new(),
                is_first: true,
            },
            num_calls: 0,
        }
    }

    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }

    pub fn push(&mut self, text: &str, events: &mut Vec<OutputEvent>) {
        let mut rest = text.to_owned();
        while !rest.is_empty() {
            rest = match &self.state {
                State::Text { .. } => self.read_text(&rest, events),
                State::Frame(_) => self.read_frame(&rest, events),
                State::Complete => return,
            };
        }
    }

    pub fn finish(&mut self, events: &mut Vec<OutputEvent>) {
        let complete = std::mem::replace(&mut self.state, State::Complete);
        match complete {
            State::Text { held, .. } => {
                // Blanks after a call are the model's own layout.
                let is_layout = self.num_calls > 0 && held.trim().is_empty();
                push_text(events, if is_layout { String::new() } else { held });
            }
            State::Frame(frame) => {
                if let Some(text) = frame.give_up() {
                    push_text(events, text);
                }
            }
            State::Complete => {}
        }
    }

    /// Reads text up to the beginning of a frame; returns what comes after that.
    fn read_text(&mut self, text: &str, events: &mut Vec<OutputEvent>) -> String {
        let format = self.tools.format;
        let State::Text { held, is_first } = &mut self.state else {
            return text.to_owned();
        };
        held.push_str(text);
        if *is_first {
            let begun = held.trim_start();
            let opener = |it: &&&str| begun.starts_with(**it);
            if let Some(opener) = format.first_openers().iter().find(opener) {
                let blanks = &held[..held.len() - begun.len()];
                let frame = Frame::new(format, blanks, opener);
                let rest = begun[opener.len()..].to_owned();
                self.state = State::Frame(Box::new(frame));
                return rest;
            }
            if format
                .first_openers()
                .iter()
                .any(|opener| opener.starts_with(begun))
            {
                return String::new();
            }
            *is_first = begun.is_empty();
        }
        let openers = format.openers();
        let found = openers.iter().filter_map(|opener| {
            let start = held.find(opener)?;
            Some((start, *opener))
        });
        if let Some((start, opener)) = found.min() {
            let before = held[..start].trim_end();
            let frame = Frame::new(format, &held[before.len()..start], opener);
            let rest = held[start + opener.len()..].to_owned();
            push_text(events, before.to_owned());
            self.state = State::Frame(Box::new(frame));
            return rest;
        }
        let num_certain = held.len() - num_held(held, openers);
        let num_shown = match openers.is_empty() {
            true => num_certain,
            false => held[..num_certain].trim_end().len(),
        };
        let shown: String = held.drain(..num_shown).collect();
        push_text(events, shown);
        String::new()
    }

    /// Reads a frame to its end; returns what comes after it.
    fn read_frame(&mut self, text: &str, events: &mut Vec<OutputEvent>) -> String {
        let State::Frame(frame) = &mut self.state else {
            return text.to_owned();
        };
        for (at, next) in text.char_indices() {
            let mut unread = Some(next);
            while let Some(next) = unread.take() {
                let leftover = match frame.push(next, &self.tools.names, self.num_calls, events) {
                    Flow::Goes => continue,
                    Flow::CallEnded { leftover } => {
                        self.num_calls += 1;
                        if !self.tools.allows_parallel {
                            self.state = State::Complete;
                            return String::new();
                        }
                        unread = leftover;
                        continue;
                    }
                    Flow::Closed { leftover } => leftover,
                    Flow::Broken { text, leftover } => {
                        push_text(events, text);
                        leftover.map(String::from).unwrap_or_default()
                    }
                };
                self.state = State::Text {
                    held: String::new(),
                    is_first: false,
                };
                return leftover + &text[at + next.len_utf8()..];
            }
        }
        String::new()
    }
}

fn push_text(events: &mut Vec<OutputEvent>, text: String) {
    if !text.is_empty() {
        events.push(OutputEvent::Text(text));
    }
}
