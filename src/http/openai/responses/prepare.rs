//! Makes a checked request ready to be written: loads its model, searches, and builds the prompt.

use serde_json::{Map, Value, json};

use super::answering::Answering;
use super::extension::rounded;
use super::input::SOURCES;
use super::request::Checked;
use super::response::Head;
use super::run::{Run, Source};
use super::wishes::Mode;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::Answerer;
use crate::rag::answer::{About, AnswerError, AnswerPlan};
use crate::rag::answer_cache::normalised;
use crate::rag::conversation::ChatMessage;
use crate::rag::generate::{ChatModel, GenerateError};
use crate::rag::prompt::Sources;
use crate::rag::reply::{ReplyPlan, ReplyRequest};
use crate::store::Item;

/// Searches, builds the prompt and queues the generation. Every error up to here has a status of its own.
pub async fn prepare(context: &Context, mut checked: Checked) -> Result<Run, ApiError> {
    let (model, source, found) = match checked.file_search.take() {
        None => {
            let chat = context.chat_model(checked.model.as_deref()).await?;
            let plan = plan(&chat, &checked).await?;
            let num_dropped = plan.num_dropped_items();
            checked.echo.extension.dropped_items = (num_dropped > 0).then_some(num_dropped);
            let held_by = held_by(&checked);
            let mut replies = plan.start(1).map_err(|error| failed(error, held_by))?;
            let reply = replies.pop().ok_or_else(ApiError::ended_early)?;
            let model = chat.id().to_owned();
            (model, Source::Chat(Box::new(reply), chat), None)
        }
        Some(search) => {
            let answering = Answering::new(context, &search, &checked).await?;
            let (answer, found) = answering.answer().await?;
            let (mode, min_confidence) = (answering.mode, answering.min_confidence);
            let chat = match &answering.answerer {
                Answerer::Quote => None,
                Answerer::Chat(chat) => Some(chat.clone()),
            };
            let model = answering.answerer.id().to_owned();
            describe(&answer.about, &mut checked.echo.metadata);
            let asked = checked.conversation.asked().map(|asked| asked.question);
            let extension = &mut checked.echo.extension;
            extension.describe(mode, &answer.about);
            if answer.about.confidence.is_some() {
                extension.min_confidence = Some(rounded(min_confidence));
            }
            let query = found.as_ref().map(|(query, _)| query.clone());
            let is_other =
                |query: &String| asked.as_deref().map(normalised) != Some(normalised(query));
            extension.search_query = query.filter(is_other);
            show_sources(&mut checked, &answer.about.sources);
            (model, Source::Documents(Box::new(answer), chat), found)
        }
    };
    let (queries, retrieved) = match found {
        Some((query, found)) => (vec![query], Some(found)),
        None => (Vec::new(), None),
    };
    Ok(Run {
        store: context.workspace.store.clone(),
        head: Head {
            id: checked.id,
            created_at: checked.created_at,
            model,
            is_stored: checked.is_stored,
        },
        echo: checked.echo,
        conversation: checked.conversation,
        input: checked.input,
        read_as: checked.read_as,
        queries,
        retrieved,
        with_results: checked.with_results,
        source,
    })
}

/// How many tokens the prompt of a request has.
pub async fn count_input(context: &Context, mut checked: Checked) -> Result<usize, ApiError> {
    let Some(search) = checked.file_search.take() else {
        let chat = context.chat_model(checked.model.as_deref()).await?;
        return Ok(plan(&chat, &checked).await?.prompt().len());
    };
    let answering = Answering::new(context, &search, &checked).await?;
    let (Answerer::Chat(chat), Mode::Answer) = (&answering.answerer, answering.mode) else {
        let message = "no prompt is built where documents are quoted or summarised; ask a chat model for an answer";
        return Err(ApiError::unsupported("model", message));
    };
    let (question, _) = answering.question(chat).await?;
    if !question.needs_model() {
        return Ok(0);
    }
    let plan = AnswerPlan::new(chat, question).await;
    let plan = plan.map_err(|error| unanswered(error, held_by(&checked)))?;
    Ok(plan.reply.prompt().len())
}

async fn plan(chat: &ChatModel, checked: &Checked) -> Result<ReplyPlan, ApiError> {
    let instructions = checked.echo.instructions.clone();
    let instructions = instructions.map(ChatMessage::System);
    let messages = instructions
        .into_iter()
        .chain(checked.conversation.messages.clone());
    let thinking = ("enable_thinking".to_string(), json!(checked.is_thinking));
    let request = ReplyRequest {
        messages: messages.collect(),
        extra: Map::from_iter([thinking]),
        tools: checked.functions.clone(),
        shape: checked.shape.clone(),
        options: checked.options.clone(),
    };
    let plan = match checked.is_truncated {
        true => ReplyPlan::fitted(chat, request).await,
        false => ReplyPlan::new(chat, request).await,
    };
    plan.map_err(|error| failed(error, held_by(checked)))
}

/// The parameter that the answer is held to.
pub(super) fn held_by(checked: &Checked) -> &'static str {
    checked.shape.as_ref().map_or("tools", |_| "text.format")
}

fn failed(error: GenerateError, held_by: &str) -> ApiError {
    match error {
        GenerateError::Constrain(error) => ApiError::from(error).about(held_by),
        error => ApiError::from(error).about("input"),
    }
}

pub(super) fn unanswered(error: AnswerError, held_by: &str) -> ApiError {
    match error {
        AnswerError::Generate(error) => failed(error, held_by),
        error => ApiError::from(error).about("input"),
    }
}

/// Takes note of the sources that the question is shown with, for what continues the response and for its conversation.
fn show_sources(checked: &mut Checked, sources: &Sources) {
    if sources.is_empty() {
        return;
    }
    checked.conversation.show_sources(sources.clone());
    let mut items = checked.input.iter_mut().rev();
    let question = items.find(|item| item.body["role"] == "user");
    if let Some(Item { body, read_as, .. }) = question {
        let read = read_as.get_or_insert_with(|| body.clone());
        read[SOURCES] = json!(sources);
    } else if let Some((id, mut read)) = checked.conversation.stored_question.take() {
        read[SOURCES] = json!(sources);
        checked.read_as = Some((id, read));
    }
}

/// What the reader should know of an answer from documents, as metadata of the response.
pub(super) fn describe(about: &About, metadata: &mut Map<String, Value>) {
    let outcome = match about.is_found {
        true if about.is_uncited => "uncited",
        true => "answered",
        false => "not_found",
    };
    metadata.insert("inglenook_outcome".into(), json!(outcome));
    if let Some(confidence) = about.confidence {
        let confidence = format!("{confidence:.3}");
        metadata.insert("inglenook_confidence".into(), json!(confidence));
    }
    if let Some(dropped) = about.left_out.sentence() {
        metadata.insert("inglenook_dropped".into(), json!(dropped));
    }
}
