//! Reads what a chat model writes while it writes it: thoughts, text for the reader, calls of functions. Pure: how the
//! text is cut into pieces never changes what is read. What turns out to be no call is text.

mod reasoning;
mod tool_calls;

#[cfg(test)]
mod tests;

pub use reasoning::{THINK_END, THINK_START, ThinkingStart};
pub use tool_calls::{HERMES_CLOSE, HERMES_OPEN, MISTRAL_ARGS, MISTRAL_OPEN, ToolFormat};

use reasoning::ReasoningReader;
use tool_calls::ToolCallReader;

/// One step of what a model writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputEvent {
    /// For the reader.
    Text(String),
    /// What the model thinks before it answers.
    Reasoning(String),
    /// Begins a call; calls are numbered from 0.
    ToolCall { index: usize, name: String },
    /// More of a call's arguments, which together are a JSON text.
    ToolArguments { index: usize, fragment: String },
}

/// Reads one answer.
#[derive(Debug, Clone)]
pub struct OutputReader {
    reasoning: Option<ReasoningReader>,
    calls: Option<ToolCallReader>,
}

impl OutputReader {
    /// `thinking` says where thoughts begin, for a model that has any; `tools` how this model calls functions, and those
    /// there are.
    pub fn new(thinking: Option<ThinkingStart>, tools: Option<ToolsRead>) -> Self {
        Self {
            reasoning: thinking.map(ReasoningReader::new),
            calls: tools.map(ToolCallReader::new),
        }
    }

    pub fn push(&mut self, text: &str) -> Vec<OutputEvent> {
        let mut events = Vec::new();
        let text = match &mut self.reasoning {
            Some(reader) => reader.push(text, &mut events),
            None => text.to_owned(),
        };
        self.read_answer(&text, &mut events);
        merged(events)
    }

    /// What was held back, when no more text comes.
    pub fn finish(&mut self) -> Vec<OutputEvent> {
        let mut events = Vec::new();
        if let Some(reader) = &mut self.reasoning {
            let text = reader.finish(&mut events);
            self.read_answer(&text, &mut events);
        }
        if let Some(reader) = &mut self.calls {
            reader.finish(&mut events);
        }
        merged(events)
    }

    /// Whether the text read last is, or may yet be, a thought.
    pub fn is_reasoning(&self) -> bool {
        let reader = self.reasoning.as_ref();
        reader.is_some_and(ReasoningReader::is_inside)
    }

    /// Whether all that was asked for has been said: the one call, where only one may be made.
    pub fn is_complete(&self) -> bool {
        self.calls.as_ref().is_some_and(ToolCallReader::is_complete)
    }

    fn read_answer(&mut self, text: &str, events: &mut Vec<OutputEvent>) {
        match &mut self.calls {
            Some(reader) => reader.push(text, events),
            None if text.is_empty() => {}
            None => events.push(OutputEvent::Text(text.to_owned())),
        }
    }
}

/// What is needed to find calls.
#[derive(Debug, Clone)]
pub struct ToolsRead {
    pub format: ToolFormat,
    /// Functions that may be called; a call of another is text.
    pub names: Vec<String>,
    /// Whether there may be more than one call.
    pub allows_parallel: bool,
}

/// Joins neighbours of one kind.
fn merged(events: Vec<OutputEvent>) -> Vec<OutputEvent> {
    let mut merged: Vec<OutputEvent> = Vec::with_capacity(events.len());
    for event in events {
        match (merged.last_mut(), event) {
            (Some(OutputEvent::Text(text)), OutputEvent::Text(more))
            | (Some(OutputEvent::Reasoning(text)), OutputEvent::Reasoning(more)) => {
                text.push_str(&more)
            }
            (
                Some(OutputEvent::ToolArguments { index, fragment }),
                OutputEvent::ToolArguments {
                    index: of,
                    fragment: more,
                },
            ) if *index == of => fragment.push_str(&more),
            (_, event) => merged.push(event),
        }
    }
    merged
}

/// How many bytes at the end of `text` may be the beginning of one of `marks` that is still to be completed.
fn num_held(text: &str, marks: &[&str]) -> usize {
    let may_begin = |start: usize| {
        let rest = &text.as_bytes()[start..];
        marks.iter().any(|mark| mark.as_bytes().starts_with(rest))
    };
    let longest = marks.iter().map(|mark| mark.len()).max().unwrap_or(0);
    let first = (text.len() + 1).saturating_sub(longest).min(text.len());
    let start = (first..text.len()).find(|&start| text.is_char_boundary(start) && may_begin(start));
    text.len() - start.unwrap_or(text.len())
}
