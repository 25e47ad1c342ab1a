//! What messages of a request are made of: text, or blocks.

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::ToSchema;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicMessage)]
pub struct Message {
    #[schema(value_type = Role)]
    pub role: String,
    pub content: Content,
}

/// Who speaks.
#[derive(ToSchema)]
#[schema(as = AnthropicRole, rename_all = "lowercase")]
#[expect(dead_code, reason = "it is the schema of what `checked` reads")]
enum Role {
    User,
    Assistant,
    System,
}

/// Text, or blocks.
#[derive(Debug, ToSchema)]
#[schema(as = AnthropicContent)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Blocks(Vec<Block>),
}

/// By its first character: an untagged enum would copy all that is inside it, again at every level.
impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Content;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a string or an array of blocks")
            }

            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, blocks: A) -> Result<Content, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(blocks)).map(Content::Blocks)
            }
        }
        deserializer.deserialize_any(Read)
    }
}

/// The fields of every kind of block that is read here.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicBlock)]
pub struct Block {
    #[serde(rename = "type")]
    #[schema(value_type = BlockType)]
    pub kind: String,
    /// Of `text`.
    pub text: Option<String>,
    /// Of `thinking`.
    pub thinking: Option<String>,
    /// Of `tool_use`.
    pub id: Option<String>,
    /// Of `tool_use`.
    pub name: Option<String>,
    /// Of `tool_use`: the arguments, by name.
    pub input: Option<Value>,
    /// Of `tool_result`: the call that it is the result of.
    pub tool_use_id: Option<String>,
    /// Of `tool_result`.
    pub is_error: Option<bool>,
    /// Of `tool_result` and `search_result`.
    #[schema(no_recursion)]
    pub content: Option<Content>,
    /// Of `document` and `search_result`.
    #[schema(no_recursion)]
    pub source: Option<Source>,
    /// Of `document` and `search_result`.
    pub title: Option<String>,
    /// Of `document`.
    pub context: Option<String>,
}

/// `thinking`, `redacted_thinking` and `tool_use` in messages of role `assistant` only, `tool_result` in those of role
/// `user`.
#[derive(ToSchema)]
#[schema(as = AnthropicBlockType, rename_all = "snake_case")]
#[expect(dead_code, reason = "it is the schema of what `block_text` reads")]
enum BlockType {
    Text,
    Thinking,
    RedactedThinking,
    ToolUse,
    ToolResult,
    Document,
    SearchResult,
}

/// What a document is made of; of a search result, where it was found.
#[derive(Debug, ToSchema)]
#[schema(as = AnthropicSource)]
#[serde(untagged)]
pub enum Source {
    Place(String),
    Document(Box<Document>),
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicDocument)]
pub struct Document {
    #[serde(rename = "type")]
    #[schema(value_type = DocumentType)]
    pub kind: String,
    /// Of `text`.
    pub data: Option<String>,
    /// Of `content`.
    #[schema(no_recursion)]
    pub content: Option<Content>,
}

#[derive(ToSchema)]
#[schema(as = AnthropicDocumentType, rename_all = "snake_case")]
#[expect(dead_code, reason = "it is the schema of what `document_text` reads")]
enum DocumentType {
    Text,
    Content,
}

/// As for [`Content`].
impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Source;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a string or an object with a type")
            }

            fn visit_str<E>(self, place: &str) -> Result<Source, E> {
                Ok(Source::Place(place.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Source, A::Error> {
                let document = Document::deserialize(MapAccessDeserializer::new(fields))?;
                Ok(Source::Document(Box::new(document)))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl Block {
    pub fn of_text(text: String) -> Self {
        Self {
            kind: "text".into(),
            text: Some(text),
            thinking: None,
            id: None,
            name: None,
            input: None,
            tool_use_id: None,
            is_error: None,
            content: None,
            source: None,
            title: None,
            context: None,
        }
    }
}
