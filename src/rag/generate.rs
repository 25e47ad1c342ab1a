//! A chat model in words: messages in, text out. Joins tokenizer and engine, which do not know each other.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use tokio::time::Instant;

use crate::engine::{
    Constraint, Engine, EngineError, FinishReason, GeneratedToken, GenerationRequest,
    SamplingParams, SubmitError, TokenEvent, TokenStream, Usage,
};
use crate::rag::constrain::{ConstrainError, Constrainer};
use crate::rag::conversation::Dialect;
use crate::rag::models::Lease;
use crate::rag::timings::Timings;
use crate::tokenizer::{ChatTemplate, SpecialTokens, StreamDecoder, TemplateError, Tokenizer};

/// For a model whose file has no chat template, as base models have none.
const PLAIN_TEMPLATE: &str = "{% for message in messages %}{% if message.role == 'system' %}{{ message.content }}\n\n\
     {% elif message.role == 'user' %}Question: {{ message.content }}\n\
     {% else %}Answer: {{ message.content }}\n{% endif %}{% endfor %}\
     {% if add_generation_prompt %}Answer:{% endif %}";

/// A chat model that is loaded and served. Cheap to clone.
#[derive(Clone)]
pub struct ChatModel {
    inner: Arc<Inner>,
    /// Keeps the model loaded; whoever owns it needs none.
    lease: Option<Lease>,
}

struct Inner {
    id: String,
    engine: Engine,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    dialect: Dialect,
    constrainer: Constrainer,
    timings: Arc<Timings>,
}

/// How one text is to be generated.
#[derive(Debug, Clone)]
pub struct GenerationOptions {
    /// Without it, as much as the context leaves.
    pub max_tokens: Option<usize>,
    pub sampling: SamplingParams,
    /// Whether blanks before the first word are left out, as SentencePiece models say one.
    pub trims_start: bool,
    /// Generation ends before any of these.
    pub stops: Vec<String>,
    /// Log-probabilities with this many alternatives.
    pub logprobs: Option<usize>,
    /// What the text is held to.
    pub constraint: Option<Constraint>,
    /// Control tokens that the text shows, with their spelling.
    pub shown: Vec<(u32, &'static str)>,
    /// For fairness between callers, and so that none of them can tell from the time an answer takes what another asked.
    pub user: Option<String>,
    /// Leading tokens of the prompt that say nothing of the user.
    pub num_public_tokens: usize,
    /// Longest time that the whole generation may take.
    pub timeout: Duration,
}

impl GenerationOptions {
    /// Whatever the model's own distribution gives, as much as the context leaves.
    pub fn new(timeout: Duration) -> Self {
        Self {
            max_tokens: None,
            sampling: SamplingParams::default(),
            trims_start: true,
            stops: Vec::new(),
            logprobs: None,
            constraint: None,
            shown: Vec::new(),
            user: None,
            num_public_tokens: 0,
            timeout,
        }
    }

    /// The likeliest text, of at most so many tokens.
    pub fn greedy(max_tokens: Option<usize>, timeout: Duration) -> Self {
        Self {
            max_tokens,
            sampling: SamplingParams::greedy(),
            ..Self::new(timeout)
        }
    }
}

/// One step of a generation.
#[derive(Debug)]
pub enum GenerationEvent {
    /// New text, never a split character; `tokens` are those that have been sampled since the last event.
    Text {
        text: String,
        tokens: Vec<GeneratedToken>,
    },
    /// The last event.
    Finished { reason: EndReason, usage: Usage },
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// The model ended it, or a stop string did.
    Stop,
    /// The token limit did.
    Length,
}

/// Why a text could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the messages do not fit this model's chat template: {0}")]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Constrain(#[from] ConstrainError),
    #[error(
        "the answer was not finished within {seconds} s; ask for fewer tokens or raise generation_timeout"
    )]
    TimedOut { seconds: u64 },
}

impl ChatModel {
    /// Serves `engine` under the name `id`.
    pub fn new(id: String, engine: Engine, tokenizer: Tokenizer) -> Result<Self, TemplateError> {
        let template = match tokenizer.chat_template() {
            Some(template) => template.clone(),
            None => {
                tracing::warn!(
                    model = id,
                    "no chat template in the model's files, using a plain one"
                );
                ChatTemplate::new(PLAIN_TEMPLATE, "", "")?
            }
        };
        Ok(Self {
            inner: Arc::new(Inner {
                id,
                engine,
                constrainer: Constrainer::new(tokenizer.clone()),
                tokenizer,
                dialect: Dialect::of(&template),
                template,
                timings: Arc::default(),
            }),
            lease: None,
        })
    }

    /// The same model, which stays loaded while this handle or a generation of it lives.
    pub fn leased(self, lease: Lease) -> Self {
        Self {
            lease: Some(lease),
            ..self
        }
    }

    pub fn id(&self) -> &str {
        &self.inner.id
    }

    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// What the model's chat template was written for.
    pub fn dialect(&self) -> Dialect {
        self.inner.dialect
    }

    /// Compiles what this model's answers are to be held to.
    pub fn constrainer(&self) -> &Constrainer {
        &self.inner.constrainer
    }

    /// What those who read this model's texts have waited.
    pub fn timings(&self) -> &Timings {
        &self.inner.timings
    }

    /// Longest prompt and answer together, in tokens.
    pub fn context_length(&self) -> usize {
        self.inner.engine.context_length()
    }

    /// The text of a conversation, ending where the assistant is to speak. What anybody wrote in it is defused.
    pub(super) fn rendered(
        &self,
        messages: &[Value],
        tools: Option<&Value>,
        extra: &serde_json::Map<String, Value>,
    ) -> Result<String, TemplateError> {
        let messages = self.defused(messages);
        let mut tools = tools.cloned();
        if let Some(tools) = &mut tools {
            self.defuse(tools);
        }
        let mut extra = extra.clone();
        extra.values_mut().for_each(|value| self.defuse(value));
        let template = &self.inner.template;
        template.render(&messages, tools.as_ref(), true, &extra)
    }

    /// How many tokens a text has by itself.
    pub fn count_tokens(&self, text: &str) -> usize {
        self.inner
            .tokenizer
            .encode(text, SpecialTokens::AsText)
            .len()
    }

    /// The tokens of plain text as a prompt for completion.
    pub fn plain_prompt(&self, text: &str) -> Vec<u32> {
        self.encode(text, SpecialTokens::Parse)
    }

    /// The tokens after which the model writes what belongs between two texts; `None` when it was not trained for that.
    pub fn infill_prompt(&self, prefix: &str, suffix: &str) -> Option<Vec<u32>> {
        let ids = self.inner.tokenizer.infill(prefix, suffix)?;
        Some(self.with_bos(ids))
    }

    /// Messages whose text cannot act as control tokens: what a user or a document writes stays text, so that nobody
    /// can end a turn or speak as the system.
    fn defused(&self, messages: &[Value]) -> Vec<Value> {
        let mut messages = messages.to_vec();
        for message in &mut messages {
            let Some(fields) = message.as_object_mut() else {
                continue;
            };
            // The role is ours; everything else was written by somebody.
            for (_, value) in fields.iter_mut().filter(|(name, _)| *name != "role") {
                self.defuse(value);
            }
        }
        messages
    }

    fn defuse(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.inner.tokenizer.defuse(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.defuse(item)),
            // The names of arguments are somebody's words too.
            Value::Object(fields) => {
                let entries = std::mem::take(fields).into_iter();
                fields.extend(entries.map(|(name, mut field)| {
                    self.defuse(&mut field);
                    (self.inner.tokenizer.defuse(&name), field)
                }));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn encode(&self, text: &str, special: SpecialTokens) -> Vec<u32> {
        self.with_bos(self.inner.tokenizer.encode(text, special))
    }

    fn with_bos(&self, mut ids: Vec<u32>) -> Vec<u32> {
        let tokenizer = &self.inner.tokenizer;
        if let Some(bos) = tokenizer.bos()
            && tokenizer.adds_bos()
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        ids
    }

    /// Starts to generate after `prompt`. Dropping the result cancels.
    pub fn generate(
        &self,
        prompt: Vec<u32>,
        options: GenerationOptions,
    ) -> Result<Generation, GenerateError> {
        let mut choices = self.generate_choices(prompt, options, 1)?;
        Ok(choices.pop().expect("one choice was asked for"))
    }

    /// Starts several generations after one prompt, which is computed once. The n-th, from 0, is sampled with the seed
    /// plus n.
    pub fn generate_choices(
        &self,
        prompt: Vec<u32>,
        options: GenerationOptions,
        num_choices: usize,
    ) -> Result<Vec<Generation>, GenerateError> {
        let num_prompt_tokens = prompt.len();
        let room = self
            .context_length()
            .saturating_sub(num_prompt_tokens)
            .max(1);
        let request = GenerationRequest {
            prompt,
            max_tokens: options.max_tokens.unwrap_or(room),
            end_tokens: self.inner.tokenizer.end_tokens().to_vec(),
            sampling: options.sampling,
            logprobs: options.logprobs,
            constraint: options.constraint,
            user: options.user,
            num_public_tokens: options.num_public_tokens,
        };
        let asked_at = Instant::now();
        let deadline = asked_at + options.timeout;
        let generation = |stream| Generation {
            stream: Some(stream),
            decoder: StreamDecoder::new(&self.inner.tokenizer, options.stops.clone())
                .showing(options.shown.clone()),
            stops: options.stops.clone(),
            stopped_by: None,
            first_token_at: None,
            deadline,
            timeout: options.timeout,
            pending: Vec::new(),
            is_trimming: options.trims_start,
            usage: Usage {
                num_prompt_tokens,
                ..Usage::default()
            },
            finished: None,
            timings: Arc::clone(&self.inner.timings),
            last_event_at: asked_at,
            _lease: self.lease.clone(),
        };
        let streams = self.inner.engine.submit_choices(request, num_choices)?;
        Ok(streams.into_iter().map(generation).collect())
    }
}

/// A text that is being generated.
pub struct Generation {
    /// `None` once nothing more is wanted from the engine.
    stream: Option<TokenStream>,
    decoder: StreamDecoder,
    stops: Vec<String>,
    /// Which of `stops` ended the text.
    stopped_by: Option<usize>,
    first_token_at: Option<Instant>,
    deadline: Instant,
    timeout: Duration,
    pending: Vec<GeneratedToken>,
    /// Nothing has been said yet, and blanks are to be left out.
    is_trimming: bool,
    usage: Usage,
    /// Set when the text has ended and only the last event is still to be given.
    finished: Option<EndReason>,
    timings: Arc<Timings>,
    /// When the last token came, or the request.
    last_event_at: Instant,
    _lease: Option<Lease>,
}

impl Generation {
    /// The next event; `None` after `Finished` or an error.
    pub async fn next(&mut self) -> Option<Result<GenerationEvent, GenerateError>> {
        loop {
            if let Some(reason) = self.finished.take() {
                self.stream = None;
                return Some(Ok(GenerationEvent::Finished {
                    reason,
                    usage: self.usage,
                }));
            }
            let stream = self.stream.as_mut()?;
            let event = match tokio::time::timeout_at(self.deadline, stream.next()).await {
                Ok(event) => event?,
                Err(_) => {
                    self.stream = None;
                    let seconds = self.timeout.as_secs();
                    return Some(Err(GenerateError::TimedOut { seconds }));
                }
            };
            match event {
                Ok(TokenEvent::Token(token)) => {
                    let waited = match self.usage.num_completion_tokens {
                        0 => &self.timings.first_token,
                        _ => &self.timings.inter_token,
                    };
                    let now = Instant::now();
                    self.first_token_at.get_or_insert(now);
                    waited.observe(now - std::mem::replace(&mut self.last_event_at, now));
                    self.usage.num_completion_tokens += 1;
                    let piece = self.decoder.push(token.id);
                    self.pending.push(token);
                    if piece.stopped.is_some() {
                        self.stopped_by = piece.stopped;
                        self.usage.num_cached_tokens = stream.num_cached_tokens();
                        self.finished = Some(EndReason::Stop);
                    }
                    let text = self.trimmed(piece.text);
                    if !text.is_empty() {
                        return Some(Ok(self.text(text)));
                    }
                }
                Ok(TokenEvent::Finished { reason, usage }) => {
                    self.usage = usage;
                    self.finished = Some(match reason {
                        FinishReason::EndToken => EndReason::Stop,
                        FinishReason::MaxTokens => EndReason::Length,
                    });
                    let rest = self.decoder.finish();
                    let rest = self.trimmed(rest);
                    if !rest.is_empty() || !self.pending.is_empty() {
                        return Some(Ok(self.text(rest)));
                    }
                }
                Err(error) => {
                    self.stream = None;
                    return Some(Err(error.into()));
                }
            }
        }
    }

    /// The stop string that ended the text, where one did.
    pub(super) fn stopped_by(&self) -> Option<&str> {
        self.stops.get(self.stopped_by?).map(String::as_str)
    }

    /// When the prompt had been read and the first token was there.
    pub(super) fn first_token_at(&self) -> Option<Instant> {
        self.first_token_at
    }

    /// Ends the text here, as if the model had ended it: nothing more is computed.
    pub(super) fn stop(&mut self) {
        if let Some(stream) = &self.stream
            && self.finished.is_none()
        {
            self.usage.num_cached_tokens = stream.num_cached_tokens();
            self.finished = Some(EndReason::Stop);
        }
    }

    fn trimmed(&mut self, text: String) -> String {
        if !self.is_trimming {
            return text;
        }
        let rest = text.trim_start();
        self.is_trimming = rest.is_empty();
        rest.to_string()
    }

    fn text(&mut self, text: String) -> GenerationEvent {
        GenerationEvent::Text {
            text,
            tokens: std::mem::take(&mut self.pending),
        }
    }

    /// Runs to the end: the whole text, its tokens, why it ended and what it took.
    pub async fn collect(mut self) -> Result<Generated, GenerateError> {
        let mut generated = Generated::default();
        while let Some(event) = self.next().await {
            match event? {
                GenerationEvent::Text { text, tokens } => {
                    generated.text.push_str(&text);
                    generated.tokens.extend(tokens);
                }
                GenerationEvent::Finished { reason, usage } => {
                    generated.reason = Some(reason);
                    generated.usage = usage;
                }
            }
        }
        Ok(generated)
    }
}

/// A finished text.
#[derive(Debug, Default)]
pub struct Generated {
    pub text: String,
    pub tokens: Vec<GeneratedToken>,
    pub reason: Option<EndReason>,
    pub usage: Usage,
}
