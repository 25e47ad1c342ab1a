//! What chat completions are made of on the wire: whole, and in the chunks of a stream.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::engine::{GeneratedToken, Usage};
use crate::http::openai::responses::output::Annotation;
use crate::rag::conversation::PastCall;
use crate::rag::generate::{ChatModel, EndReason};
use crate::rag::reply::Replied;

/// A chat completion.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatCompletion)]
pub struct Completion {
    pub id: String,
    /// Always `chat.completion`.
    object: &'static str,
    /// Unix seconds.
    created: i64,
    pub model: String,
    /// Changes when answers may: another version or another start.
    system_fingerprint: String,
    /// Always `default`.
    service_tier: &'static str,
    choices: Vec<Choice>,
    usage: CompletionUsage,
    /// Only of a completion that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<BTreeMap<String, String>>,
}

impl Completion {
    pub fn with_metadata(self, metadata: BTreeMap<String, String>) -> Self {
        Self {
            metadata: Some(metadata),
            ..self
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatChoice)]
pub struct Choice {
    pub index: usize,
    pub message: AssistantMessage,
    #[schema(required)]
    pub logprobs: Option<Logprobs>,
    /// `stop`, `length` or `tool_calls`.
    pub finish_reason: &'static str,
}

/// What the model said.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssistantMessage {
    /// Always `assistant`.
    role: &'static str,
    /// Null where there is nothing but calls.
    #[schema(required)]
    content: Option<String>,
    /// Always null.
    #[schema(required)]
    refusal: Option<String>,
    /// What the model thought before it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    tool_calls: Vec<MadeCall>,
    /// Always empty, and only of `inglenook-quote`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    annotations: Option<[(); 0]>,
    /// Where the answer stands in the documents, only of `inglenook-quote`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Annotation>>)]
    citations: Option<Vec<Value>>,
}

impl AssistantMessage {
    pub fn of_model(replied: Replied) -> Self {
        // Nothing but calls is no content.
        let is_said = !replied.text.is_empty() || replied.calls.is_empty();
        Self {
            content: is_said.then_some(replied.text),
            reasoning_content: Some(replied.reasoning).filter(|it| !it.is_empty()),
            tool_calls: replied.calls.into_iter().map(MadeCall::from).collect(),
            annotations: None,
            citations: None,
            ..Self::empty()
        }
    }

    /// In the documents' own words. OpenAI has no citations of files here, and strict clients check what they know, so
    /// these stand apart from the annotations.
    pub fn quoted(text: String, citations: Vec<Value>) -> Self {
        Self {
            content: Some(text),
            annotations: Some([]),
            citations: Some(citations),
            ..Self::empty()
        }
    }

    fn empty() -> Self {
        Self {
            role: "assistant",
            content: None,
            refusal: None,
            reasoning_content: None,
            tool_calls: Vec::new(),
            annotations: None,
            citations: None,
        }
    }
}

/// A call that the model made.
#[derive(Debug, Serialize, ToSchema)]
struct MadeCall {
    id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    kind: &'static str,
    function: MadeFunction,
}

#[derive(Debug, Serialize, ToSchema)]
struct MadeFunction {
    name: String,
    /// JSON text.
    arguments: String,
}

impl From<PastCall> for MadeCall {
    fn from(call: PastCall) -> Self {
        Self {
            id: call.id,
            kind: "function",
            function: MadeFunction {
                name: call.name,
                arguments: call.arguments,
            },
        }
    }
}

/// What a completion took, in tokens.
#[derive(Debug, Serialize, ToSchema)]
pub struct CompletionUsage {
    prompt_tokens: usize,
    completion_tokens: usize,
    total_tokens: usize,
    prompt_tokens_details: PromptTokensDetails,
    completion_tokens_details: CompletionTokensDetails,
}

#[derive(Debug, Serialize, ToSchema)]
struct PromptTokensDetails {
    /// Those that were found in the cache.
    cached_tokens: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct CompletionTokensDetails {
    reasoning_tokens: usize,
}

impl CompletionUsage {
    pub fn new(usage: &Usage, num_reasoning_tokens: usize) -> Self {
        Self {
            prompt_tokens: usage.num_prompt_tokens,
            completion_tokens: usage.num_completion_tokens,
            total_tokens: usage.num_prompt_tokens + usage.num_completion_tokens,
            prompt_tokens_details: PromptTokensDetails {
                cached_tokens: usage.num_cached_tokens,
            },
            completion_tokens_details: CompletionTokensDetails {
                reasoning_tokens: num_reasoning_tokens,
            },
        }
    }
}

/// Log-probabilities of the tokens of a text.
#[derive(Debug, Serialize, ToSchema)]
pub struct Logprobs {
    content: Vec<TokenLogprob>,
    /// Always null.
    #[schema(required, value_type = Option<Vec<TokenLogprob>>)]
    refusal: Option<()>,
}

impl Logprobs {
    pub fn new(chat: &ChatModel, tokens: &[GeneratedToken]) -> Self {
        Self {
            content: token_logprobs(chat, tokens),
            refusal: None,
        }
    }
}

/// What a token's probability was, and that of others in its place.
#[derive(Debug, Serialize, ToSchema)]
pub struct TokenLogprob {
    #[serde(flatten)]
    chosen: Logprob,
    /// As many as were asked for, the likeliest first.
    top_logprobs: Vec<Logprob>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Logprob {
    token: String,
    /// As wide as JSON has numbers, so that it reads the same wherever it is kept.
    logprob: f64,
    /// The token as it is, since it may be a part of a character.
    bytes: Vec<u8>,
}

/// Nothing of tokens for which it is not known.
pub fn token_logprobs(chat: &ChatModel, tokens: &[GeneratedToken]) -> Vec<TokenLogprob> {
    let entry = |id: u32, logprob: f32| {
        let bytes = chat.tokenizer().token_bytes(id).unwrap_or_default();
        Logprob {
            token: String::from_utf8_lossy(bytes).into_owned(),
            logprob: logprob.into(),
            bytes: bytes.to_vec(),
        }
    };
    let known = tokens.iter().filter_map(|token| {
        let logprob = token.logprob.as_ref()?;
        let others = logprob.alternatives.iter();
        Some(TokenLogprob {
            chosen: entry(token.id, logprob.logprob),
            top_logprobs: others.map(|one| entry(one.id, one.logprob)).collect(),
        })
    });
    known.collect()
}

pub fn finish_reason(reason: Option<EndReason>) -> &'static str {
    match reason {
        Some(EndReason::Length) => "length",
        Some(EndReason::Stop) | None => "stop",
    }
}

/// As [`finish_reason`], of an answer that may have made calls.
pub fn reply_finish_reason(reason: Option<EndReason>, num_calls: usize) -> &'static str {
    match reason {
        Some(EndReason::Stop) | None if num_calls > 0 => "tool_calls",
        reason => finish_reason(reason),
    }
}

/// What the answers carry besides the text.
pub struct Envelope {
    pub id: String,
    pub created: i64,
    pub model: String,
    pub fingerprint: String,
    pub with_logprobs: bool,
}

impl Envelope {
    pub fn completion(&self, choices: Vec<Choice>, usage: CompletionUsage) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "chat.completion",
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: self.fingerprint.clone(),
            service_tier: "default",
            choices,
            usage,
            metadata: None,
        }
    }
}
