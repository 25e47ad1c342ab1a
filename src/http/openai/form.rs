//! Fields of multipart forms. Files go to disk as they come and are never in memory as a whole.

use actix_multipart::{Field, MultipartError};
use futures_util::{StreamExt, TryStreamExt};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use crate::http::HttpOptions;
use crate::http::error::ApiError;

/// Longest text field of a form.
const MAX_FIELD_BYTES: usize = 4096;

/// A file that is kept until it is dropped.
pub struct KeptFile {
    pub content: NamedTempFile,
    pub num_bytes: u64,
    /// As the user knows it, in UTF-8, without folders; empty where the client gives none.
    pub filename: String,
    pub media_type: Option<String>,
}

/// Keeps a file of at most `max_bytes`; `what` names it in an error.
pub async fn keep_file(
    mut field: Field,
    options: &HttpOptions,
    max_bytes: u64,
    what: &str,
) -> Result<KeptFile, ApiError> {
    let filename = filename(&field);
    let media_type = field
        .content_type()
        .map(|media_type| media_type.essence_str().to_string());
    let content = NamedTempFile::new_in(&options.upload_dir).map_err(unkept)?;
    let mut writer = tokio::fs::File::from_std(content.reopen().map_err(unkept)?);
    let mut num_bytes = 0;
    while let Some(chunk) = field.next().await {
        let chunk =
            chunk.map_err(|error| ApiError::malformed(format!("the upload broke off: {error}")))?;
        num_bytes += chunk.len() as u64;
        if num_bytes > max_bytes {
            return Err(ApiError::too_large(max_bytes, what));
        }
        writer.write_all(&chunk).await.map_err(unkept)?;
    }
    writer.flush().await.map_err(unkept)?;
    Ok(KeptFile {
        content,
        num_bytes,
        filename,
        media_type,
    })
}

pub async fn read_text(mut field: Field, name: &str) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.next().await {
        let chunk = chunk.map_err(unreadable)?;
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_FIELD_BYTES {
            return Err(ApiError::invalid(
                name,
                format!("{name} is longer than {MAX_FIELD_BYTES} bytes"),
            ));
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| ApiError::invalid(name, format!("{name} is not valid UTF-8")))
}

pub async fn skip(field: Field) -> Result<(), ApiError> {
    let read = field.try_for_each(|_| async { Ok(()) });
    read.await.map_err(unreadable)
}

pub fn unreadable(error: MultipartError) -> ApiError {
    let why = match error {
        // What is there and is not UTF-8 is not told from what is not there.
        MultipartError::ContentDispositionMissing => {
            "a part of it has no Content-Disposition of form-data, or one that is not UTF-8; write the name of a file in \
             UTF-8"
                .to_owned()
        }
        other => other.to_string(),
    };
    ApiError::malformed(format!("the form cannot be read: {why}"))
}

/// A file's name without folders and control characters.
pub fn clean_filename(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    name.chars()
        .filter(|c| !c.is_control())
        .take(255)
        .collect::<String>()
        .trim()
        .to_string()
}

fn filename(field: &Field) -> String {
    let Some(disposition) = field.content_disposition() else {
        return String::new();
    };
    match disposition.get_filename_ext() {
        Some(extended) => clean_filename(&String::from_utf8_lossy(&extended.value)),
        None => clean_filename(disposition.get_filename().unwrap_or_default()),
    }
}

fn unkept(error: std::io::Error) -> ApiError {
    ApiError::not_available(format!(
        "the upload cannot be kept: {error}; check the disk's free space"
    ))
}
