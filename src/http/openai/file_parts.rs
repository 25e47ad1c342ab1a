//! Parts of messages that are files: a stored one, or one that comes with the request in base64. The model reads their
//! text.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::{Context, blocking};
use crate::rag::attached::MAX_TEXT_BYTES;

/// How much text the files of one request may still bring.
pub struct TextBudget {
    num_bytes: usize,
}

impl TextBudget {
    pub fn of_a_request() -> Self {
        Self {
            num_bytes: MAX_TEXT_BYTES,
        }
    }

    pub fn take(&mut self, text: &str, param: &str) -> Result<(), ApiError> {
        let left = self.num_bytes.checked_sub(text.len());
        self.num_bytes = left.ok_or_else(|| {
            let message = format!(
                "the files of this request have more than {MAX_TEXT_BYTES} bytes of text together; attach them to a \
                 vector store and search it"
            );
            ApiError::invalid(param, message)
        })?;
        Ok(())
    }
}

/// As chat completions nest it and responses have it flat.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct FilePart {
    /// A stored file's.
    #[serde(skip_serializing_if = "Option::is_none")]
    file_id: Option<String>,
    /// A data URL, or plain base64. Not kept with the message.
    #[serde(skip_serializing)]
    file_data: Option<String>,
    #[serde(skip_serializing)]
    #[schema(ignore)]
    file_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
}

impl FilePart {
    /// The file's text between marks; `param` names the part in an error.
    pub async fn into_text(
        self,
        context: &Context,
        param: &str,
        budget: &mut TextBudget,
    ) -> Result<String, ApiError> {
        let text = self.read(context, param).await?;
        budget.take(&text, param)?;
        Ok(text)
    }

    async fn read(self, context: &Context, param: &str) -> Result<String, ApiError> {
        if self.file_url.is_some() {
            let message =
                format!("{param}.file_url is not served: nothing is fetched; send file_data");
            return Err(ApiError::unsupported(format!("{param}.file_url"), message));
        }
        match (self.file_id, self.file_data) {
            (Some(id), None) => {
                let block = context.files.stored_block(&context.workspace.store, &id);
                let about = format!("{param}.file_id");
                block
                    .await
                    .map_err(|error| ApiError::from(error).about(&about))
            }
            (None, Some(data)) => {
                let about = format!("{param}.file_data");
                let (media_type, bytes) = decoded(data, &about).await?;
                let name = self.filename.filter(|name| !name.trim().is_empty());
                let name = name.unwrap_or_else(|| default_name(media_type.as_deref()));
                let block = context.files.block(bytes, &name);
                block
                    .await
                    .map_err(|error| ApiError::from(error).about(&about))
            }
            _ => {
                let message =
                    format!("{param} must have either file_id, or file_data and filename");
                Err(ApiError::invalid(param, message))
            }
        }
    }
}

/// The media type, where the data says one, and the bytes.
async fn decoded(data: String, param: &str) -> Result<(Option<String>, Vec<u8>), ApiError> {
    let invalid = |why: String| {
        let message = format!("{param} must be a data URL in base64, or base64: {why}");
        ApiError::invalid(param, message)
    };
    let (media_type, start) = match data.strip_prefix("data:") {
        None => (None, 0),
        Some(rest) => {
            let head = rest.split_once(";base64,").map(|(head, _)| head);
            let head = head.ok_or_else(|| invalid("the URL has no ';base64,'".into()))?;
            let media_type = head.split(';').next().filter(|it| !it.is_empty());
            let start = "data:".len() + head.len() + ";base64,".len();
            (media_type.map(str::to_owned), start)
        }
    };
    let decode = move || Ok(STANDARD.decode(data[start..].trim()));
    let bytes = blocking(decode).await?;
    let bytes = bytes.map_err(|error| invalid(error.to_string()))?;
    Ok((media_type, bytes))
}

/// For a file that came without a name.
fn default_name(media_type: Option<&str>) -> String {
    let extension = match media_type {
        Some("application/pdf") => "pdf",
        Some("text/html") => "html",
        Some("text/markdown") => "md",
        _ => "txt",
    };
    format!("file.{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_request_share_one_budget() {
        let mut budget = TextBudget::of_a_request();
        let half = "x".repeat(MAX_TEXT_BYTES / 2);
        assert!(budget.take(&half, "input").is_ok());
        assert!(budget.take(&half, "input").is_ok());
        assert!(budget.take("x", "input").is_err());
    }
}
