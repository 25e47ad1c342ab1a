//! The tools of a request, and its choice among them. The search is made before the model writes: it is chosen, or not,
//! by the request alone.

use serde_json::{Value, json};

use super::file_search::{FileSearch, file_search};
use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::openai::tools;
use crate::rag::tools::ToolUse;

/// What a request offers.
pub struct Tools {
    pub file_search: Option<FileSearch>,
    /// Whether a search is made for the question; sources that were shown before are shown all the same.
    pub is_searching: bool,
    pub functions: ToolUse,
}

/// The tools in `offered` with what `choice` makes of them.
pub async fn checked(
    context: &Context,
    offered: &[Value],
    choice: Option<&Value>,
    allows_parallel: Option<bool>,
) -> Result<Tools, ApiError> {
    let file_search = file_search(context, offered).await?;
    let mut functions = Vec::new();
    for (at, tool) in offered.iter().enumerate() {
        if tool["type"] == "function" {
            functions.push(tools::function(tool, &format!("tools[{at}]"))?);
        }
    }
    let chosen = match choice.filter(|choice| !choice.is_null()) {
        None => Chosen::functions(None),
        Some(choice) => Chosen::among(choice, file_search.is_some())?,
    };
    Ok(Tools {
        is_searching: file_search.is_some() && chosen.is_searching,
        file_search,
        functions: tools::chosen(functions, chosen.of_functions.as_ref(), allows_parallel)?,
    })
}

/// What a `tool_choice` says of the search and of functions.
struct Chosen {
    is_searching: bool,
    of_functions: Option<Value>,
}

impl Chosen {
    /// The search is made, and functions are chosen so.
    fn functions(of_functions: Option<Value>) -> Self {
        Self {
            is_searching: true,
            of_functions,
        }
    }

    fn among(choice: &Value, has_search: bool) -> Result<Self, ApiError> {
        if choice == "none" {
            return Ok(Self {
                is_searching: false,
                ..Self::functions(Some(choice.clone()))
            });
        }
        // The search is a call of a tool too.
        if (choice == "required" || choice == "any") && has_search {
            return Ok(Self::functions(None));
        }
        match choice["type"].as_str() {
            Some("file_search") if has_search => Ok(Self::functions(Some(json!("none")))),
            Some("file_search") => Err(not_offered()),
            Some("function") => Ok(Self {
                is_searching: false,
                ..Self::functions(Some(choice.clone()))
            }),
            Some("allowed_tools") => Self::allowed(choice, has_search),
            // What cannot be read is named where functions are chosen.
            _ => Ok(Self::functions(Some(choice.clone()))),
        }
    }

    fn allowed(choice: &Value, has_search: bool) -> Result<Self, ApiError> {
        let mut choice = choice.clone();
        let allowed = match choice["allowed_tools"].is_object() {
            true => &mut choice["allowed_tools"],
            false => &mut choice,
        };
        let mut tools = allowed["tools"].as_array().into_iter().flatten();
        let is_searching = tools.any(|tool| tool["type"] == "file_search");
        if is_searching && !has_search {
            return Err(not_offered());
        }
        if is_searching && allowed["mode"] == "required" {
            allowed["mode"] = json!("auto");
        }
        Ok(Self {
            is_searching,
            of_functions: Some(choice),
        })
    }
}

fn not_offered() -> ApiError {
    let message = "tool_choice names file_search, which is not in 'tools'";
    ApiError::invalid("tool_choice", message)
}
