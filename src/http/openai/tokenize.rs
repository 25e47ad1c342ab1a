//! `POST /tokenize` and `/detokenize`, in the shapes that llama.cpp's and vLLM's clients know. Which one a request is in,
//! its fields tell.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::chat::messages::{self, Message};
use crate::http::openai::parameters::SamplingFields;
use crate::http::openai::tools::{self, OfferedFunction};
use crate::http::{Context, blocking};
use crate::rag::generate::ChatModel;
use crate::rag::reply::{ReplyPlan, ReplyRequest};
use crate::tokenizer::SpecialTokens;

/// Exactly one of `content`, `prompt` and `messages` is needed.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TokenizeRequest {
    /// The default chat model when absent.
    model: Option<String>,
    /// A text, as llama.cpp's clients send it.
    content: Option<String>,
    /// Whether a `content` begins as the model's prompts do; false when absent.
    add_special: Option<bool>,
    /// Whether control tokens that are spelled in a `content` are read as such; true when absent.
    parse_special: Option<bool>,
    /// Whether the tokens of a `content` come with their text.
    with_pieces: Option<bool>,
    /// A text, as vLLM's clients send it.
    prompt: Option<String>,
    /// Whether a `prompt` begins as the model's prompts do; true when absent.
    add_special_tokens: Option<bool>,
    /// Whether the texts of the tokens of a `prompt` or of `messages` are told.
    return_token_strs: Option<bool>,
    messages: Option<Vec<Message>>,
    /// What the `messages` are shown with.
    #[schema(value_type = Option<Vec<OfferedFunction>>, max_items = 128)]
    tools: Option<Vec<Value>>,
    /// Variables of the model's chat template.
    #[schema(value_type = Option<HashMap<String, Value>>)]
    chat_template_kwargs: Option<Map<String, Value>>,
}

/// As the clients that sent the text know it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Tokenized {
    /// Of a `prompt` or of `messages`.
    Counted(CountedTokens),
    /// Of a `content`.
    Listed(TokenList),
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CountedTokens {
    count: usize,
    /// The context of the model, in tokens.
    max_model_len: usize,
    tokens: Vec<u32>,
    #[schema(required)]
    token_strs: Option<Vec<String>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenList {
    tokens: Vec<ListedToken>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum ListedToken {
    Id(u32),
    /// Where `with_pieces` asks for it.
    Spelled(SpelledToken),
}

#[derive(Debug, Serialize, ToSchema)]
struct SpelledToken {
    id: u32,
    piece: Piece,
}

/// A token's text, or its bytes where it is a part of a character.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TokenPiece)]
#[serde(untagged)]
enum Piece {
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, Deserialize, ToSchema)]
pub struct DetokenizeRequest {
    /// The default chat model when absent.
    model: Option<String>,
    tokens: Vec<u32>,
}

/// The text, under llama.cpp's name and under vLLM's.
#[derive(Debug, Serialize, ToSchema)]
pub struct DetokenizedText {
    content: String,
    prompt: String,
}

/// Turns text into tokens
///
/// As llama.cpp does for a `content`, and vLLM for a `prompt` or `messages`.
#[utoipa::path(
    post,
    path = "/tokenize",
    operation_id = "tokenize",
    tag = "Tokens",
    request_body(
        content = TokenizeRequest,
        example = json!({ "content": "The keeper of the lighthouse" })
    ),
    responses((status = 200, body = Tokenized))
)]
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
    let tools = tools::checked(request.tools.as_deref(), None, None)?;
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
                tools,
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
        Ok(Tokenized::Counted(CountedTokens {
            count: tokens.len(),
            max_model_len: chat.context_length(),
            tokens,
            token_strs: strings,
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
    let with_pieces = request.with_pieces.unwrap_or(false);
    let listed = move |id: u32| {
        if !with_pieces {
            return ListedToken::Id(id);
        }
        let bytes = chat.tokenizer().token_bytes(id).unwrap_or_default();
        let piece = match std::str::from_utf8(bytes) {
            Ok(_) => Piece::Text(chat.tokenizer().spell(&[id])),
            Err(_) => Piece::Bytes(bytes.to_vec()),
        };
        ListedToken::Spelled(SpelledToken { id, piece })
    };
    let list = move || Ok(tokens.into_iter().map(listed).collect());
    let tokens = blocking(list).await?;
    Ok(HttpResponse::Ok().json(Tokenized::Listed(TokenList { tokens })))
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

/// Turns tokens into text
#[utoipa::path(
    post,
    path = "/detokenize",
    operation_id = "detokenize",
    tag = "Tokens",
    request_body(
        content = DetokenizeRequest,
        example = json!({ "tokens": [1, 2, 3] })
    ),
    responses((status = 200, body = DetokenizedText))
)]
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
    Ok(HttpResponse::Ok().json(DetokenizedText {
        content: text.clone(),
        prompt: text,
    }))
}
