//! A chat model's reply in its parts: thoughts, text and calls of functions, held to a shape where one is asked for.

use std::collections::VecDeque;

use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::engine::{Constraint, GeneratedToken, Usage};
use crate::rag::constrain::{Shape, Wanted};
use crate::rag::conversation::{ChatMessage, PastCall, Templated};
use crate::rag::generate::{
    ChatModel, EndReason, GenerateError, Generation, GenerationEvent, GenerationOptions,
};
use crate::rag::output::{
    OutputEvent, OutputReader, THINK_END, THINK_START, ThinkingStart, ToolFormat, ToolsRead,
};
use crate::rag::prompt::answer_tokens;
use crate::rag::tools::ToolUse;
use crate::rag::turns;
use crate::store::new_id;
use crate::tokenizer::TemplateError;

/// A conversation and how its next message is to be.
#[derive(Debug, Clone)]
pub struct ReplyRequest {
    pub messages: Vec<ChatMessage>,
    /// Further variables for the chat template, such as `enable_thinking`.
    pub extra: Map<String, Value>,
    pub tools: ToolUse,
    pub shape: Option<Shape>,
    pub options: GenerationOptions,
}

/// A reply that can be generated.
pub struct ReplyPlan {
    chat: ChatModel,
    prompt: Vec<u32>,
    options: GenerationOptions,
    reader: OutputReader,
    num_dropped_items: usize,
}

/// How a conversation becomes a prompt: by the model's template, with the functions that it is told of.
#[derive(Clone)]
pub struct Renderer {
    chat: ChatModel,
    tools: ToolUse,
    extra: Map<String, Value>,
    closes_thoughts: bool,
}

/// A prompt, and where it leaves the model's thoughts.
pub struct Rendered {
    pub tokens: Vec<u32>,
    thoughts: Thoughts,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Thoughts {
    /// This model has none.
    None,
    Open,
    /// The prompt has passed over them.
    Closed,
    /// The model may open them.
    Possible,
}

impl Renderer {
    /// `extra` are further variables for the template.
    pub fn new(chat: &ChatModel, tools: ToolUse, extra: Map<String, Value>) -> Self {
        Self {
            chat: chat.clone(),
            tools,
            extra,
            closes_thoughts: false,
        }
    }

    /// The model is not to think aloud, also where its template opens thoughts whatever it is told.
    pub fn without_thoughts(chat: &ChatModel, tools: ToolUse) -> Self {
        let extra = Map::from_iter([(ENABLE_THINKING.to_owned(), Value::Bool(false))]);
        Self {
            closes_thoughts: true,
            ..Self::new(chat, tools, extra)
        }
    }

    /// The same without functions.
    pub fn without_tools(&self) -> Self {
        Self {
            tools: ToolUse::default(),
            ..self.clone()
        }
    }

    /// Tokenizes, and so works for a while.
    pub fn render(&self, messages: &[ChatMessage]) -> Result<Rendered, TemplateError> {
        let dialect = self.chat.dialect();
        let tools = match self.tools.is_wanted() {
            true => self.tools.tools.as_slice(),
            false => &[],
        };
        let extra = &self.extra;
        let Templated { messages, tools } = dialect.template(messages, tools);
        let mut text = match self.chat.rendered(&messages, tools.as_ref(), extra) {
            // Some templates know no system message.
            Err(TemplateError::Refused { .. }) if is_taught(dialect.tool_format, &messages) => {
                let messages = with_system_in_question(messages);
                self.chat.rendered(&messages, None, extra)?
            }
            rendered => rendered?,
        };
        if self.closes_thoughts && text.trim_end().ends_with(THINK_START) {
            text.push_str(&format!("\n\n{THINK_END}\n\n"));
        }
        let thinks_aloud = extra.get(ENABLE_THINKING) != Some(&Value::Bool(false));
        let thoughts = match text.trim_end() {
            _ if !dialect.thinks => Thoughts::None,
            text if text.ends_with(THINK_START) => Thoughts::Open,
            text if text.ends_with(THINK_END) => Thoughts::Closed,
            _ if thinks_aloud => Thoughts::Possible,
            _ => Thoughts::Closed,
        };
        let tokens = self.chat.plain_prompt(&text);
        Ok(Rendered { tokens, thoughts })
    }
}

/// What templates call it.
const ENABLE_THINKING: &str = "enable_thinking";

/// The template's variables where the model is to think aloud.
pub fn thinking_aloud() -> Map<String, Value> {
    Map::from_iter([(ENABLE_THINKING.to_owned(), Value::Bool(true))])
}

impl ReplyPlan {
    /// Renders the prompt and compiles what the reply is held to, away from the calling thread.
    pub async fn new(chat: &ChatModel, request: ReplyRequest) -> Result<Self, GenerateError> {
        Self::planned(chat, request, None).await
    }

    /// As [`new`](Self::new), but of a conversation that is too long, the oldest turns are left out until the rest and
    /// an answer fit.
    pub async fn fitted(chat: &ChatModel, request: ReplyRequest) -> Result<Self, GenerateError> {
        let context_length = chat.context_length();
        let answer_tokens = answer_tokens(context_length, request.options.max_tokens);
        let budget = context_length.saturating_sub(answer_tokens);
        Self::planned(chat, request, Some(budget)).await
    }

    /// Items of the conversation that were left out.
    pub fn num_dropped_items(&self) -> usize {
        self.num_dropped_items
    }

    async fn planned(
        chat: &ChatModel,
        request: ReplyRequest,
        budget: Option<usize>,
    ) -> Result<Self, GenerateError> {
        let ReplyRequest {
            messages,
            extra,
            tools,
            shape,
            options,
        } = request;
        let renderer = Renderer::new(chat, tools, extra);
        let fitting = renderer.clone();
        let rendered = tokio::task::spawn_blocking(move || fit(&fitting, messages, budget)).await;
        let (rendered, num_dropped_items) = rendered.map_err(|_| TemplateError::TooLong)??;
        Ok(Self {
            num_dropped_items,
            ..Self::rendered(renderer, rendered, shape, options).await?
        })
    }

    /// The plan of a reply to what `renderer` has rendered.
    pub async fn rendered(
        renderer: Renderer,
        rendered: Rendered,
        shape: Option<Shape>,
        mut options: GenerationOptions,
    ) -> Result<Self, GenerateError> {
        let Renderer { chat, tools, .. } = renderer;
        let thinking = match rendered.thoughts {
            Thoughts::None => None,
            Thoughts::Open => Some(ThinkingStart::InPrompt),
            Thoughts::Closed | Thoughts::Possible => Some(ThinkingStart::InAnswer),
        };
        let format = chat.dialect().tool_format;
        let tools_read = tools.is_wanted().then(|| ToolsRead {
            format,
            names: tools.callable().map(|it| it.name.clone()).collect(),
            allows_parallel: tools.allows_parallel,
        });
        options.shown = shown_tokens(&chat, thinking.is_some(), tools_read.as_ref());
        let wanted = Wanted {
            thinking: thinking.filter(|_| rendered.thoughts != Thoughts::Closed),
            shape,
            tools,
            format,
        };
        options.constraint = constraint(&chat, wanted).await?;
        Ok(Self {
            chat,
            prompt: rendered.tokens,
            options,
            reader: OutputReader::new(thinking, tools_read),
            num_dropped_items: 0,
        })
    }

    /// Goes on from `text` as it stands, without a chat template: all that comes is text.
    pub async fn going_on(
        chat: &ChatModel,
        text: String,
        shape: Option<Shape>,
        mut options: GenerationOptions,
    ) -> Result<Self, GenerateError> {
        let wanted = Wanted {
            thinking: None,
            shape,
            tools: ToolUse::default(),
            format: chat.dialect().tool_format,
        };
        options.constraint = constraint(chat, wanted).await?;
        let tokenizer = chat.clone();
        let tokenized = tokio::task::spawn_blocking(move || tokenizer.plain_prompt(&text)).await;
        Ok(Self {
            chat: chat.clone(),
            prompt: tokenized.map_err(|_| TemplateError::TooLong)?,
            options,
            reader: OutputReader::new(None, None),
            num_dropped_items: 0,
        })
    }

    /// The tokens that the reply comes after.
    pub fn prompt(&self) -> &[u32] {
        &self.prompt
    }

    /// Starts one reply. Dropping it cancels it.
    pub fn start_one(self) -> Result<Reply, GenerateError> {
        let mut replies = self.start(1)?;
        Ok(replies.pop().expect("one reply was asked for"))
    }

    /// Starts several replies to the one prompt; the n-th, from 0, is sampled with the seed plus n. Dropping one cancels
    /// it.
    pub fn start(self, num_choices: usize) -> Result<Vec<Reply>, GenerateError> {
        let Self {
            chat,
            prompt,
            options,
            reader,
            ..
        } = self;
        let generations = chat.generate_choices(prompt, options, num_choices)?;
        let reply = |generation| Reply {
            writing: Some(Writing {
                generation,
                chat: chat.clone(),
                reader: reader.clone(),
                unsaid: Vec::new(),
                num_reasoning_tokens: 0,
            }),
            queue: VecDeque::new(),
        };
        Ok(generations.into_iter().map(reply).collect())
    }
}

/// What a reply is held to, if to anything.
async fn constraint(chat: &ChatModel, wanted: Wanted) -> Result<Option<Constraint>, GenerateError> {
    match wanted.is_constrained() {
        true => Ok(Some(chat.constrainer().compile(wanted).await?)),
        false => Ok(None),
    }
}

/// The prompt of `messages`, or of what is left of them when the oldest turns go until it has `budget` tokens, and how
/// many items went. One that is still too long is for the engine to refuse.
fn fit(
    renderer: &Renderer,
    mut messages: Vec<ChatMessage>,
    budget: Option<usize>,
) -> Result<(Rendered, usize), TemplateError> {
    let mut num_dropped = 0;
    loop {
        let rendered = renderer.render(&messages)?;
        let num_tokens = rendered.tokens.len();
        let over = budget.map_or(0, |budget| num_tokens.saturating_sub(budget));
        let count = |text: &str| renderer.chat.count_tokens(text);
        let places = match over {
            0 => Vec::new(),
            over => turns::oldest(&messages, over, num_tokens, count),
        };
        if places.is_empty() {
            return Ok((rendered, num_dropped));
        }
        for place in places.into_iter().rev() {
            num_dropped += turns::num_items(&messages.remove(place));
        }
    }
}

fn is_taught(format: ToolFormat, messages: &[Value]) -> bool {
    format == ToolFormat::Taught && messages.len() > 1 && messages[0]["role"] == "system"
}

fn with_system_in_question(mut messages: Vec<Value>) -> Vec<Value> {
    let system = messages.remove(0);
    if let (Some(system), Some(first)) = (system["content"].as_str(), messages.first_mut()) {
        let content = first["content"].as_str().unwrap_or_default();
        first["content"] = format!("{system}\n\n{content}").into();
    }
    messages
}

/// The marks that are control tokens of this vocabulary: decoded text would not show them.
fn shown_tokens(
    chat: &ChatModel,
    thinks: bool,
    tools: Option<&ToolsRead>,
) -> Vec<(u32, &'static str)> {
    let thinking: &[&'static str] = match thinks {
        true => &[THINK_START, THINK_END],
        false => &[],
    };
    let calls = tools.map_or(&[] as &[&'static str], |tools| tools.format.marks());
    let marks = thinking.iter().chain(calls);
    marks
        .filter_map(|mark| Some((chat.tokenizer().control_token(mark)?, *mark)))
        .collect()
}

/// One step of a reply.
#[derive(Debug, Clone, PartialEq)]
pub enum ReplyEvent {
    /// For the reader; `tokens` are those of the text since the last such event.
    Text {
        text: String,
        tokens: Vec<GeneratedToken>,
    },
    Reasoning(String),
    /// Begins a call; calls are numbered from 0.
    ToolCall {
        index: usize,
        id: String,
        name: String,
    },
    ToolArguments {
        index: usize,
        fragment: String,
    },
    /// The last event.
    Finished {
        reason: EndReason,
        usage: Usage,
        num_reasoning_tokens: usize,
    },
}

/// A reply on its way.
pub struct Reply {
    /// `None` where all is said.
    writing: Option<Writing>,
    queue: VecDeque<ReplyEvent>,
}

/// What a reply is made from as it is generated.
struct Writing {
    generation: Generation,
    chat: ChatModel,
    reader: OutputReader,
    /// Tokens whose text is not given out yet.
    unsaid: Vec<GeneratedToken>,
    num_reasoning_tokens: usize,
}

impl Reply {
    /// One that no model writes.
    pub fn said(text: String, usage: Usage) -> Self {
        let tokens = Vec::new();
        let finished = ReplyEvent::Finished {
            reason: EndReason::Stop,
            usage,
            num_reasoning_tokens: 0,
        };
        Self {
            writing: None,
            queue: [ReplyEvent::Text { text, tokens }, finished].into(),
        }
    }

    /// The next event; `None` after `Finished` or an error.
    pub async fn next(&mut self) -> Option<Result<ReplyEvent, GenerateError>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(Ok(event));
            }
            let writing = self.writing.as_mut()?;
            match writing.generation.next().await? {
                Ok(GenerationEvent::Text { text, tokens }) => {
                    writing.read(&text, tokens, &mut self.queue);
                }
                Ok(GenerationEvent::Finished { reason, usage }) => {
                    let events = writing.reader.finish();
                    writing.tell(events, &mut self.queue);
                    self.queue.push_back(ReplyEvent::Finished {
                        reason,
                        usage,
                        num_reasoning_tokens: writing.num_reasoning_tokens,
                    });
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The stop string that ended the reply, where one did; known with `Finished`.
    pub fn stopped_by(&self) -> Option<&str> {
        self.writing.as_ref()?.generation.stopped_by()
    }

    /// When the prompt had been read and the first token was there.
    pub fn first_token_at(&self) -> Option<Instant> {
        self.writing.as_ref()?.generation.first_token_at()
    }

    /// Runs to the end.
    pub async fn collect(mut self) -> Result<Replied, GenerateError> {
        let mut replied = Replied::default();
        while let Some(event) = self.next().await {
            replied.add(event?);
        }
        replied.stopped_by = self.stopped_by().map(str::to_owned);
        replied.first_token_at = self.first_token_at();
        Ok(replied)
    }
}

impl Writing {
    fn read(&mut self, text: &str, tokens: Vec<GeneratedToken>, queue: &mut VecDeque<ReplyEvent>) {
        let was_reasoning = self.reader.is_reasoning();
        let events = self.reader.push(text);
        if was_reasoning || self.reader.is_reasoning() {
            self.num_reasoning_tokens += tokens.len();
        } else {
            self.unsaid.extend(tokens);
        }
        self.tell(events, queue);
        if self.reader.is_complete() {
            self.generation.stop();
        }
    }

    fn tell(&mut self, events: Vec<OutputEvent>, queue: &mut VecDeque<ReplyEvent>) {
        for event in events {
            let event = match event {
                OutputEvent::Text(text) => ReplyEvent::Text {
                    text,
                    tokens: std::mem::take(&mut self.unsaid),
                },
                OutputEvent::Reasoning(thought) => ReplyEvent::Reasoning(thought),
                OutputEvent::ToolCall { index, name } => {
                    self.unsaid.clear();
                    let id = self.chat.dialect().new_call_id(&new_id("call_"));
                    ReplyEvent::ToolCall { index, id, name }
                }
                OutputEvent::ToolArguments { index, fragment } => {
                    self.unsaid.clear();
                    ReplyEvent::ToolArguments { index, fragment }
                }
            };
            queue.push_back(event);
        }
    }
}

/// A finished reply.
#[derive(Debug, Default)]
pub struct Replied {
    pub text: String,
    pub reasoning: String,
    pub calls: Vec<PastCall>,
    /// Those of the text.
    pub tokens: Vec<GeneratedToken>,
    pub reason: Option<EndReason>,
    /// The stop string that ended it, where one did.
    pub stopped_by: Option<String>,
    /// When the prompt had been read.
    pub first_token_at: Option<Instant>,
    pub usage: Usage,
    pub num_reasoning_tokens: usize,
}

impl Replied {
    /// Adds the next event.
    pub fn add(&mut self, event: ReplyEvent) {
        match event {
            ReplyEvent::Text { text, tokens } => {
                self.text.push_str(&text);
                self.tokens.extend(tokens);
            }
            ReplyEvent::Reasoning(thought) => self.reasoning.push_str(&thought),
            ReplyEvent::ToolCall { id, name, .. } => self.calls.push(PastCall {
                id,
                name,
                arguments: String::new(),
            }),
            ReplyEvent::ToolArguments { index, fragment } => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.arguments.push_str(&fragment);
                }
            }
            ReplyEvent::Finished {
                reason,
                usage,
                num_reasoning_tokens,
            } => {
                self.reason = Some(reason);
                self.usage = usage;
                self.num_reasoning_tokens = num_reasoning_tokens;
            }
        }
    }
}
