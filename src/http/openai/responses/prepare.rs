//! Makes a checked request ready to be written: loads its model, searches, and builds the prompt.

use serde_json::{Map, Value, json};

use super::file_search::FileSearch;
use super::input::{Conversation, SOURCES};
use super::request::{Checked, Echo};
use super::run::{Run, Source};
use super::shape::Head;
use crate::http::error::ApiError;
use crate::http::{Context, blocking};
use crate::rag::Answerer;
use crate::rag::answer::{Answer, Question};
use crate::rag::conversation::ChatMessage;
use crate::rag::generate::{ChatModel, GenerateError, GenerationOptions};
use crate::rag::prompt::{Sources, known_passages};
use crate::rag::reply::{ReplyPlan, ReplyRequest};
use crate::rag::retrieve::Retrieved;
use crate::store::Item;

/// Searches, builds the prompt and queues the generation. Every error up to here has a status of its own.
pub async fn prepare(context: &Context, mut checked: Checked) -> Result<Run, ApiError> {
    let model = checked.model.as_deref();
    let (model, source, found, queries) = match checked.file_search.take() {
        None => {
            let chat = context.chat_model(model).await?;
            let plan = plan(&chat, &checked).await?;
            checked.echo.num_dropped_items = plan.num_dropped_items();
            let held_by = held_by(&checked);
            let mut replies = plan.start(1).map_err(|error| failed(error, held_by))?;
            let reply = replies.pop().ok_or_else(ApiError::ended_early)?;
            let model = chat.id().to_owned();
            let source = Source::Chat(Box::new(reply), chat);
            (model, source, None, Vec::new())
        }
        Some(search) => {
            let answerer = context.answerer(model).await?;
            let (answer, found, question) = answer(context, &answerer, &search, &checked).await?;
            describe(&answer, &mut checked.echo.metadata);
            show_sources(&mut checked, &answer.sources);
            let model = answerer.id().to_owned();
            let source = Source::Documents(Box::new(answer));
            (model, source, Some(found), vec![question])
        }
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
        queries,
        retrieved: found,
        with_results: checked.with_results,
        source,
    })
}

/// How many tokens the prompt of a request has.
pub async fn count_input(context: &Context, mut checked: Checked) -> Result<usize, ApiError> {
    let model = checked.model.as_deref();
    let Some(search) = checked.file_search.take() else {
        let chat = context.chat_model(model).await?;
        return Ok(plan(&chat, &checked).await?.prompt().len());
    };
    let Answerer::Chat(chat) = context.answerer(model).await? else {
        let message = "the model that quotes reads no prompt; name a chat model";
        return Err(ApiError::unsupported("model", message));
    };
    let (text, retrieved) = retrieved(context, &search, &checked.conversation).await?;
    // Then no model runs.
    if !retrieved.is_relevant {
        return Ok(0);
    }
    let question = question(context, text, &search, &checked).await?;
    let count = move || {
        let prompt = Answer::prompt(&chat, question, &retrieved);
        let (prompt, _) = prompt.map_err(|error| ApiError::from(error).about("input"))?;
        Ok(prompt.tokens.len())
    };
    blocking(count).await
}

async fn plan(chat: &ChatModel, checked: &Checked) -> Result<ReplyPlan, ApiError> {
    let Echo { instructions, .. } = &checked.echo;
    let instructions = instructions.clone().map(ChatMessage::System);
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
fn held_by(checked: &Checked) -> &'static str {
    checked.shape.as_ref().map_or("tools", |_| "text.format")
}

fn failed(error: GenerateError, held_by: &str) -> ApiError {
    match error {
        GenerateError::Constrain(error) => ApiError::from(error).about(held_by),
        error => ApiError::from(error).about("input"),
    }
}

/// An answer from documents, with what was found, numbered as the answer cites it, and the question.
async fn answer(
    context: &Context,
    answerer: &Answerer,
    search: &FileSearch,
    checked: &Checked,
) -> Result<(Answer, Retrieved, String), ApiError> {
    let workspace = &context.workspace;
    let (text, mut retrieved) = retrieved(context, search, &checked.conversation).await?;
    let answer = match answerer {
        Answerer::Quote => Answer::quote(workspace, &text, &retrieved).await?,
        Answerer::Chat(chat) => {
            let question = question(context, text.clone(), search, checked).await?;
            let (workspace, chat, retrieved) = (workspace.clone(), chat.clone(), retrieved.clone());
            let begin = move || {
                let answer = Answer::begin(&workspace, &chat, question, &retrieved);
                answer.map_err(|error| ApiError::from(error).about("input"))
            };
            blocking(begin).await?
        }
    };
    for (passage, number) in retrieved.passages.iter_mut().zip(&answer.numbers) {
        passage.number = *number;
    }
    Ok((answer, retrieved, text))
}

/// The question that a conversation ends with, and what is found for it.
async fn retrieved(
    context: &Context,
    search: &FileSearch,
    conversation: &Conversation,
) -> Result<(String, Retrieved), ApiError> {
    let question = conversation.turns().pop().map(|turn| turn.content);
    let queries = vec![question.unwrap_or_default()];
    let retrieved = search.run(&context.workspace, &queries).await?;
    Ok((queries.concat(), retrieved))
}

async fn question(
    context: &Context,
    text: String,
    search: &FileSearch,
    checked: &Checked,
) -> Result<Question, ApiError> {
    let mut earlier = checked.conversation.turns();
    earlier.pop();
    let store = &context.workspace.store;
    let options: GenerationOptions = checked.options.clone();
    Ok(Question {
        text,
        known: known_passages(store, &search.scope, &earlier).await?,
        earlier,
        instructions: checked.echo.instructions.clone(),
        options,
    })
}

/// Takes note of the sources that the question is shown with, for what continues the response and for its conversation.
fn show_sources(checked: &mut Checked, sources: &Sources) {
    if sources.is_empty() {
        return;
    }
    checked.conversation.show_sources(sources.clone());
    let question = checked.input.last_mut();
    if let Some(Item { body, read_as, .. }) = question {
        let read = read_as.get_or_insert_with(|| body.clone());
        read[SOURCES] = json!(sources);
    }
}

/// What the reader should know of an answer from documents, as metadata of the response.
fn describe(answer: &Answer, metadata: &mut Map<String, Value>) {
    let outcome = match answer.is_found {
        true => "answered",
        false => "not_found",
    };
    metadata.insert("inglenook_outcome".into(), json!(outcome));
    if let Some(confidence) = answer.confidence {
        let confidence = format!("{confidence:.3}");
        metadata.insert("inglenook_confidence".into(), json!(confidence));
    }
    if let Some(dropped) = answer.left_out.sentence() {
        metadata.insert("inglenook_dropped".into(), json!(dropped));
    }
}
