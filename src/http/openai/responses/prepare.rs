//! Makes a checked request ready to be written: loads its model, searches, and builds the prompt.

use serde_json::{Map, Value, json};

use super::file_search::FileSearch;
use super::input::{Asked, SOURCES};
use super::request::{Checked, Echo};
use super::run::{Run, Source};
use super::shape::Head;
use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::Answerer;
use crate::rag::answer::{Answer, AnswerError, AnswerPlan, Question};
use crate::rag::conversation::ChatMessage;
use crate::rag::generate::{ChatModel, GenerateError};
use crate::rag::prompt::{Sources, Turn, known_passages};
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
            let (answer, found) = answer(context, &answerer, &search, &checked).await?;
            describe(&answer, &mut checked.echo.metadata);
            show_sources(&mut checked, &answer.sources);
            let chat = match &answerer {
                Answerer::Quote => None,
                Answerer::Chat(chat) => Some(chat.clone()),
            };
            let (found, queries) = match found {
                Some((question, found)) => (Some(found), vec![question]),
                None => (None, Vec::new()),
            };
            let source = Source::Documents(Box::new(answer), chat);
            (answerer.id().to_owned(), source, found, queries)
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
        read_as: checked.read_as,
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
    let (question, _) = question(context, &search, &checked).await?;
    if !question.needs_model() {
        return Ok(0);
    }
    let plan = AnswerPlan::new(&chat, question).await;
    let plan = plan.map_err(|error| unanswered(error, held_by(&checked)))?;
    Ok(plan.reply.prompt().len())
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

fn unanswered(error: AnswerError, held_by: &str) -> ApiError {
    match error {
        AnswerError::Generate(error) => failed(error, held_by),
        error => ApiError::from(error).about("input"),
    }
}

/// What was searched for, and what was found.
type Found = (String, Retrieved);

/// An answer from documents, with what was found, numbered as the answer cites it.
async fn answer(
    context: &Context,
    answerer: &Answerer,
    search: &FileSearch,
    checked: &Checked,
) -> Result<(Answer, Option<Found>), ApiError> {
    let workspace = &context.workspace;
    let chat = match answerer {
        Answerer::Quote => {
            let question = asked(checked)?.question;
            let found = retrieved(context, search, question).await?;
            let answer = Answer::quote(workspace, &found.0, &found.1).await?;
            return Ok((answer, Some(found)));
        }
        Answerer::Chat(chat) => chat,
    };
    let (question, mut found) = question(context, search, checked).await?;
    let answer = Answer::begin(workspace, chat, question).await;
    let answer = answer.map_err(|error| unanswered(error, held_by(checked)))?;
    if let Some((_, found)) = &mut found {
        for (passage, number) in found.passages.iter_mut().zip(&answer.numbers) {
            passage.number = *number;
        }
    }
    Ok((answer, found))
}

async fn retrieved(
    context: &Context,
    search: &FileSearch,
    question: String,
) -> Result<Found, ApiError> {
    let queries = std::slice::from_ref(&question);
    let retrieved = search.run(&context.workspace, queries).await?;
    Ok((question, retrieved))
}

fn asked(checked: &Checked) -> Result<Asked, ApiError> {
    let asked = checked.conversation.asked();
    asked.ok_or_else(|| ApiError::invalid("input", "input has no message of role 'user'"))
}

/// The question that the model is asked, and what was found for it where it was searched for. A question goes on with
/// the sources that it was shown with.
async fn question(
    context: &Context,
    search: &FileSearch,
    checked: &Checked,
) -> Result<(Question, Option<Found>), ApiError> {
    let store = &context.workspace.store;
    let Asked {
        question,
        sources,
        earlier,
        following,
    } = asked(checked)?;
    let itself = Turn {
        message: ChatMessage::User(question.clone()),
        sources,
    };
    let known = known_passages(store, &search.scope, earlier.iter().chain([&itself])).await?;
    let (passages, found) = match &itself.sources {
        sources if !sources.is_empty() => (Some(sources.among(&known)), None),
        _ if !checked.is_searching => (None, None),
        _ => {
            let found = retrieved(context, search, question.clone()).await?;
            (Some(found.1.relevant().to_vec()), Some(found))
        }
    };
    let question = Question {
        text: question,
        found: passages,
        earlier,
        following,
        known,
        instructions: checked.echo.instructions.clone(),
        tools: checked.functions.clone(),
        shape: checked.shape.clone(),
        is_thinking: checked.is_thinking,
        options: checked.options.clone(),
    };
    Ok((question, found))
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
