//! What requests for responses ask for, as the OpenAPI document says it; `request` and its neighbours read it.

use serde_json::Value;
use utoipa::ToSchema;

use crate::http::openai::filters::Filter;
use crate::http::openai::ranking::RankingOptions;
use crate::http::openai::tools::Function;

/// A tool that the model may use.
#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(dead_code, reason = "it is the schema of a value")]
pub enum OfferedTool {
    Function(Function),
    FileSearch(OfferedSearch),
}

/// A search in vector stores, whose passages the answer cites.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of a value")]
pub struct OfferedSearch {
    #[schema(min_items = 1)]
    vector_store_ids: Vec<String>,
    #[schema(minimum = 1, maximum = 50)]
    max_num_results: Option<u32>,
    filters: Option<Filter>,
    ranking_options: Option<RankingOptions>,
    /// An extension: searches only these files.
    file_ids: Option<Vec<String>>,
    /// An extension: whether each result says how it came to its place.
    explain: Option<bool>,
}

/// Whether tools are used, and which.
#[derive(ToSchema)]
#[schema(as = ResponseToolChoice)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is the schema of a value")]
pub enum ToolChoice {
    Mode(ToolMode),
    Tool(ChosenTool),
}

#[derive(ToSchema)]
#[schema(as = ResponseToolMode, rename_all = "lowercase")]
#[expect(dead_code, reason = "it is the schema of a value")]
pub enum ToolMode {
    None,
    Auto,
    Required,
    Any,
}

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(dead_code, reason = "it is the schema of a value")]
pub enum ChosenTool {
    Function {
        name: String,
    },
    FileSearch {},
    /// Only these may be used.
    AllowedTools {
        #[schema(inline)]
        mode: Option<ToolMode>,
        tools: Vec<AllowedTool>,
    },
}

#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(dead_code, reason = "it is the schema of a value")]
pub enum AllowedTool {
    Function { name: String },
    FileSearch {},
}

/// How the model is to write.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is the schema of a value")]
pub struct TextOptions {
    format: Option<TextFormat>,
    #[schema(inline)]
    verbosity: Option<Verbosity>,
}

/// The shape that an answer has.
#[derive(ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(dead_code, reason = "it is the schema of a value")]
pub enum TextFormat {
    Text {},
    JsonObject {},
    JsonSchema {
        name: Option<String>,
        description: Option<String>,
        #[schema(value_type = Object)]
        schema: Value,
        /// Whether a schema that cannot be held is refused.
        strict: Option<bool>,
    },
}

/// Kept and shown; it changes nothing.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it is the schema of a text")]
pub enum Verbosity {
    Low,
    Medium,
    High,
}

/// What happens when the context is full: `auto` leaves out the oldest turns, `disabled` is an error.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it is the schema of a text")]
pub enum Truncation {
    Auto,
    Disabled,
}

/// The id of a conversation, or an object with it.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is the schema of a value")]
pub enum WantedConversation {
    Id(String),
    Object { id: String },
}
