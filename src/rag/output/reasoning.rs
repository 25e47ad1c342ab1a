//! Splits what a model thinks from what it answers, by the `<think>` tags that Qwen, DeepSeek, SmolLM and others share.

use super::{OutputEvent, num_held};

pub const THINK_START: &str = "<think>";
pub const THINK_END: &str = "</think>";

/// Where thoughts begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThinkingStart {
    /// The prompt has opened them, so all is thought until they are closed.
    InPrompt,
    /// The model may open them itself, before anything else.
    InAnswer,
}

#[derive(Debug, Clone)]
pub(super) struct ReasoningReader {
    state: State,
    /// Text that is not told apart yet.
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Before,
    /// Thoughts; blanks before the first word are left out.
    Inside {
        has_begun: bool,
    },
    /// The answer; blanks between thoughts and answer are left out.
    After {
        has_begun: bool,
    },
}

impl ReasoningReader {
    pub fn new(start: ThinkingStart) -> Self {
        Self {
            state: match start {
                ThinkingStart::InPrompt => State::Inside { has_begun: false },
                ThinkingStart::InAnswer => State::Before,
            },
            held: String::new(),
        }
    }

    pub fn is_inside(&self) -> bool {
        match self.state {
            State::Inside { .. } => true,
            // A part of the tag.
            State::Before => !self.held.trim_start().is_empty(),
            State::After { .. } => false,
        }
    }

    /// Gives out what is thought, and returns what belongs to the answer.
    pub fn push(&mut self, text: &str, events: &mut Vec<OutputEvent>) -> String {
        self.held.push_str(text);
        if self.state == State::Before {
            let begun = self.held.trim_start();
            if let Some(rest) = begun.strip_prefix(THINK_START) {
                self.held = rest.to_owned();
                self.state = State::Inside { has_begun: false };
            } else if !THINK_START.starts_with(begun) {
                // An answer without thoughts keeps its blanks.
                self.state = State::After { has_begun: true };
            }
        }
        if let State::Inside { has_begun } = self.state {
            self.push_thought(has_begun, events);
        }
        match &mut self.state {
            State::After { has_begun } => {
                let answer = std::mem::take(&mut self.held);
                if *has_begun {
                    return answer;
                }
                let answer = answer.trim_start();
                *has_begun = !answer.is_empty();
                answer.to_owned()
            }
            State::Before | State::Inside { .. } => String::new(),
        }
    }

    fn push_thought(&mut self, has_begun: bool, events: &mut Vec<OutputEvent>) {
        if !has_begun {
            self.held = self.held.trim_start().to_owned();
        }
        let end = self.held.find(THINK_END);
        let num_certain = end.unwrap_or(self.held.len() - num_held(&self.held, &[THINK_END]));
        // Blanks before the end are left out, so they wait for what comes after them.
        let thought = self.held[..num_certain].trim_end().to_owned();
        let num_taken = match end {
            Some(end) => end + THINK_END.len(),
            None => thought.len(),
        };
        self.held.drain(..num_taken);
        self.state = match end {
            Some(_) => State::After { has_begun: false },
            None => State::Inside {
                has_begun: has_begun || !thought.is_empty(),
            },
        };
        if !thought.is_empty() {
            events.push(OutputEvent::Reasoning(thought));
        }
    }

    /// As `push`, for what was held back.
    pub fn finish(&mut self, events: &mut Vec<OutputEvent>) -> String {
        let rest = std::mem::take(&mut self.held);
        match self.state {
            State::Inside { .. } => {
                let thought = rest.trim_end();
                if !thought.is_empty() {
                    events.push(OutputEvent::Reasoning(thought.to_owned()));
                }
                String::new()
            }
            State::Before | State::After { .. } => rest,
        }
    }
}
