//! The objects of the Responses API, with every key that strict clients ask for.

use serde_json::{Value, json};

use super::request::Echo;
use crate::engine::Usage;
use crate::rag::answer::Citation;

/// Identity of one response.
#[derive(Debug, Clone)]
pub struct Head {
    pub id: String,
    pub created_at: i64,
    pub model: String,
    pub is_stored: bool,
}

/// What a response took.
#[derive(Default)]
pub struct Spent {
    pub usage: Usage,
    pub num_reasoning_tokens: usize,
}

/// How far a response has come.
pub enum Progress<'a> {
    Queued,
    Running,
    Completed {
        usage: &'a Spent,
        completed_at: i64,
    },
    /// Ended by the token limit.
    Incomplete {
        usage: &'a Spent,
    },
    Failed {
        code: &'a str,
        message: &'a str,
    },
}

pub fn response(head: &Head, echo: &Echo, progress: &Progress<'_>, output: &[Value]) -> Value {
    let (status, completed_at, usage) = match progress {
        Progress::Queued => ("queued", None, None),
        Progress::Running => ("in_progress", None, None),
        Progress::Completed {
            usage,
            completed_at,
        } => ("completed", Some(*completed_at), Some(usage_json(usage))),
        Progress::Incomplete { usage } => ("incomplete", None, Some(usage_json(usage))),
        Progress::Failed { .. } => ("failed", None, None),
    };
    let error = match progress {
        Progress::Failed { code, message } => json!({ "code": code, "message": message }),
        _ => Value::Null,
    };
    let incomplete_details = match progress {
        Progress::Incomplete { .. } => json!({ "reason": "max_output_tokens" }),
        _ => Value::Null,
    };
    let mut response = json!({
        "id": head.id,
        "object": "response",
        "created_at": head.created_at,
        "completed_at": completed_at,
        "status": status,
        "background": echo.is_background,
        "conversation": echo.conversation_id.as_ref().map(|id| json!({ "id": id })),
        "error": error,
        "incomplete_details": incomplete_details,
        "instructions": echo.instructions,
        "max_output_tokens": echo.max_output_tokens,
        "max_tool_calls": echo.max_tool_calls,
        "model": head.model,
        "output": output,
        "parallel_tool_calls": echo.parallel_tool_calls,
        "presence_penalty": echo.presence_penalty,
        "frequency_penalty": echo.frequency_penalty,
        "previous_response_id": echo.previous_response_id,
        "prompt_cache_key": echo.prompt_cache_key,
        "reasoning": { "effort": echo.reasoning_effort, "summary": echo.reasoning_summary },
        "safety_identifier": echo.safety_identifier,
        "service_tier": "default",
        "store": head.is_stored,
        "temperature": echo.temperature,
        "text": { "format": echo.text_format, "verbosity": echo.verbosity },
        "tool_choice": echo.tool_choice,
        "tools": echo.tools,
        "top_logprobs": echo.top_logprobs,
        "top_p": echo.top_p,
        "truncation": echo.truncation,
        "usage": usage,
        "user": echo.user,
        "metadata": echo.metadata,
    });
    // An extension, where `truncation` is 'auto' and the context was full: how many of the oldest items the model did
    // not read.
    if echo.num_dropped_items > 0 {
        response["inglenook"] = json!({ "dropped_items": echo.num_dropped_items });
    }
    response
}

fn usage_json(spent: &Spent) -> Value {
    let usage = &spent.usage;
    json!({
        "input_tokens": usage.num_prompt_tokens,
        "input_tokens_details": { "cached_tokens": usage.num_cached_tokens, "cache_write_tokens": 0 },
        "output_tokens": usage.num_completion_tokens,
        "output_tokens_details": { "reasoning_tokens": spent.num_reasoning_tokens },
        "total_tokens": usage.num_prompt_tokens + usage.num_completion_tokens,
    })
}

pub fn message(id: &str, status: &str, content: &[Value]) -> Value {
    json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content })
}

pub fn reasoning(id: &str, text: &str) -> Value {
    let parts = match text {
        "" => json!([]),
        text => json!([{ "type": "reasoning_text", "text": text }]),
    };
    json!({ "id": id, "type": "reasoning", "summary": [], "content": parts })
}

pub fn function_call(id: &str, status: &str, call_id: &str, name: &str, arguments: &str) -> Value {
    json!({
        "id": id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    })
}

pub fn output_text(text: &str, annotations: &[Value], logprobs: &[Value]) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": annotations, "logprobs": logprobs })
}

pub fn file_search_call(
    id: &str,
    status: &str,
    queries: &[String],
    results: Option<&[Value]>,
) -> Value {
    json!({ "id": id, "type": "file_search_call", "status": status, "queries": queries, "results": results })
}

/// A citation. The keys after `index` are extensions: they say which bytes of which page are quoted.
pub fn file_citation(citation: &Citation) -> Value {
    json!({
        "type": "file_citation",
        "file_id": citation.file_id,
        "filename": citation.filename,
        "index": citation.index,
        "number": citation.number,
        "page_first": citation.page_first,
        "page_last": citation.page_last,
        "start": citation.start,
        "end": citation.end,
        "quote": citation.quote,
    })
}
