//! `POST /tokenize` and `/detokenize`, in the shapes that llama.cpp's and vLLM's clients know. Which one a request is in,
//! its fields tell.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::chat::messages::{self, Message};
use crate::http::openai::parameters::SamplingFields;
use crate::http::openai::tools;
use crate::http::{Context, blocking};
use crate::rag::generate::ChatModel;
use crate::rag::reply::{ReplyPlan, ReplyRequest};
use crate::tokenizer::SpecialTokens;

#[derive(Debug, Deserialize)]
pub struct TokenizeRequest {
    model: Option<String>,
    /// llama.cpp's.
    content: Option<String>,
    add_special: Option<bool>,
    parse_special: Option<bool>,
    with_pieces: Option<bool>,
    /// vLLM's.
    prompt: Option<String>,
    add_special_tokens: Option<bool>,
    return_token_strs: Option<bool>,
    messages: Option<Vec<Message>>,
    tools: Option<Vec<Value>>,
    chat_template_kwargs: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
pub struct DetokenizeRequest {
    model: Option<String>,
    tokens: Vec<u32>,
}

pub async fn tokenize(
    context: web::Data<Context>,
    body: JsonBody<TokenizeRequest>,
) -> Result<HttpResponse, ApiError> {
    let mut request = body.0;
    let given = [
        request.content.is_some(),
        request.prompt.is_some(),
        request.messages.is_some(),
    ];
    if given.iter().filter(|it| **it).count() != 1 {
        let message = "exactly one of 'content', 'prompt' and 'messages' is needed";
        return Err(ApiError::malformed(message));
    }
    let conversation = request.messages.take().map(messages::checked).transpose()?;
    let chat = context.chat_model(request.model.as_deref()).await?;
    if let Some(content) = request.content.take() {
        return in_the_shape_of_llama_cpp(chat, content, &request).await;
    }
    let tokens = match (conversation, request.prompt.take()) {
        (Some(messages), _) => {
            let sampling = SamplingFields::default();
            // As chat completions have it.
            let mut extra = request.chat_template_kwargs.take().unwrap_or_default();
            extra.entry("enable_thinking").or_insert(json!(false));
            let plan = ReplyRequest {
                messages,
                extra,
                tools: tools::checked(request.tools.as_deref(), None, None)?,
                shape: None,
                options: sampling.options(None, None, context.generation_timeout())?,
            };
            ReplyPlan::new(&chat, plan).await?.prompt().to_vec()
        }
        (None, prompt) => {
            let adds_special = request.add_special_tokens.unwrap_or(true);
            encoded(
                chat.clone(),
                prompt.unwrap_or_default(),
                adds_special,
                SpecialTokens::Parse,
            )
            .await?
        }
    };
    let with_strings = request.return_token_strs.unwrap_or(false);
    let answer = move || {
        let strings = with_strings.then(|| {
            let spell = |id: &u32| chat.tokenizer().spell(&[*id]);
            tokens.iter().map(spell).collect::<Vec<String>>()
        });
        Ok(json!({
            "count": tokens.len(),
            "max_model_len": chat.context_length(),
            "tokens": tokens,
            "token_strs": strings,
        }))
    };
    Ok(HttpResponse::Ok().json(blocking(answer).await?))
}

async fn in_the_shape_of_llama_cpp(
    chat: ChatModel,
    content: String,
    request: &TokenizeRequest,
) -> Result<HttpResponse, ApiError> {
    let special = match request.parse_special.unwrap_or(true) {
        true => SpecialTokens::Parse,
        false => SpecialTokens::AsText,
    };
    let adds_special = request.add_special.unwrap_or(false);
    let tokens = encoded(chat.clone(), content, adds_special, special).await?;
    if !request.with_pieces.unwrap_or(false) {
        return Ok(HttpResponse::Ok().json(json!({ "tokens": tokens })));
    }
    let piece = move |id: &u32| {
        let bytes = chat.tokenizer().token_bytes(*id).unwrap_or_default();
        // A part of a character is told in bytes.
        let piece = match std::str::from_utf8(bytes) {
            Ok(_) => json!(chat.tokenizer().spell(&[*id])),
            Err(_) => json!(bytes),
        };
        json!({ "id": id, "piece": piece })
    };
    let pieces = move || Ok(tokens.iter().map(piece).collect::<Vec<Value>>());
    let pieces = blocking(pieces).await?;
    Ok(HttpResponse::Ok().json(json!({ "tokens": pieces })))
}

/// The tokens of a text, with what the model's plain prompts begin with when `adds_special`.
async fn encoded(
    chat: ChatModel,
    text: String,
    adds_special: bool,
    special: SpecialTokens,
) -> Result<Vec<u32>, ApiError> {
    blocking(move || {
        let tokenizer = chat.tokenizer();
        let mut tokens = tokenizer.encode(&text, special);
        let bos = tokenizer
            .bos()
            .filter(|_| adds_special && tokenizer.adds_bos());
        if let Some(bos) = bos.filter(|bos| tokens.first() != Some(bos)) {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    })
    .await
}

pub async fn detokenize(
    context: web::Data<Context>,
    body: JsonBody<DetokenizeRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    let chat = context.chat_model(request.model.as_deref()).await?;
    let size = chat.tokenizer().vocab_size();
    if let Some(id) = request.tokens.iter().find(|id| **id as usize >= size) {
        let message = format!("tokens has {id}, but the vocabulary has {size} tokens");
        return Err(ApiError::invalid("tokens", message));
    }
    let spell = move || Ok(chat.tokenizer().spell(&request.tokens));
    let text = blocking(spell).await?;
    // The one name is llama.cpp's, the other vLLM's.
    Ok(HttpResponse::Ok().json(json!({ "content": text, "prompt": text })))
}
