//! `/v1/files`: originals, as they were uploaded.

use actix_multipart::{Field, Multipart};
use actix_web::http::header::{self, ContentDisposition, DispositionParam, DispositionType};
use actix_web::{HttpResponse, web};
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

use crate::http::error::ApiError;
use crate::http::openai::page::{self, PageQuery};
use crate::http::openai::vector_stores::NO_EXPIRY;
use crate::http::{Context, HttpOptions};
use crate::store::{Content, NewFile, StoredFile};

/// Purposes that clients send.
const PURPOSES: &[&str] = &[
    "assistants",
    "batch",
    "fine-tune",
    "vision",
    "user_data",
    "evals",
];
/// Longest text field of a form.
const MAX_FIELD_BYTES: usize = 4096;

/// What a form brought.
#[derive(Default)]
struct Upload {
    content: Option<(NamedTempFile, String, Option<String>)>,
    purpose: Option<String>,
}

pub async fn create(
    context: web::Data<Context>,
    form: Multipart,
) -> Result<HttpResponse, ApiError> {
    let upload = read_form(form, &context.options).await?;
    let missing =
        |param: &str| ApiError::invalid(param, format!("missing required parameter: '{param}'"));
    let purpose = upload.purpose.ok_or_else(|| missing("purpose"))?;
    if !PURPOSES.contains(&purpose.as_str()) {
        let message = format!(
            "purpose is '{purpose}', but must be one of {}",
            PURPOSES.join(", ")
        );
        return Err(ApiError::invalid("purpose", message));
    }
    let (content, filename, media_type) = upload.content.ok_or_else(|| missing("file"))?;
    let num_bytes = content.as_file().metadata().map_err(unreadable)?.len();
    if num_bytes == 0 {
        return Err(ApiError::invalid(
            "file",
            format!("the file '{filename}' is empty"),
        ));
    }
    let media_type = media_type
        .filter(|media_type| media_type != "application/octet-stream")
        .unwrap_or_else(|| {
            mime_guess::from_path(&filename)
                .first_or_octet_stream()
                .to_string()
        });
    let new = NewFile {
        filename,
        purpose,
        media_type,
    };
    let file = context
        .workspace
        .store
        .create_file(new, Content::Path(content.path().to_path_buf()))
        .await?;
    Ok(HttpResponse::Ok().json(file_json(&file)))
}

async fn read_form(mut form: Multipart, options: &HttpOptions) -> Result<Upload, ApiError> {
    let mut upload = Upload::default();
    while let Some(field) = form.next().await {
        let field = field
            .map_err(|error| ApiError::malformed(format!("the form cannot be read: {error}")))?;
        match field.name().unwrap_or_default() {
            "file" => upload.content = Some(read_file(field, options).await?),
            "purpose" => upload.purpose = Some(read_text(field, "purpose").await?),
            name if name.starts_with("expires_after") => {
                return Err(ApiError::unsupported("expires_after", NO_EXPIRY));
            }
            // Whatever clients add next.
            _ => skip(field).await?,
        }
    }
    Ok(upload)
}

async fn read_file(
    mut field: Field,
    options: &HttpOptions,
) -> Result<(NamedTempFile, String, Option<String>), ApiError> {
    let filename = filename(&field);
    if filename.is_empty() {
        return Err(ApiError::invalid(
            "file",
            "the part 'file' has no filename; send it as a file, not as text",
        ));
    }
    let media_type = field
        .content_type()
        .map(|media_type| media_type.essence_str().to_string());
    let kept = NamedTempFile::new_in(&options.upload_dir).map_err(unreadable)?;
    let mut writer = tokio::fs::File::from_std(kept.reopen().map_err(unreadable)?);
    let mut num_bytes = 0;
    while let Some(chunk) = field.next().await {
        let chunk =
            chunk.map_err(|error| ApiError::malformed(format!("the upload broke off: {error}")))?;
        num_bytes += chunk.len() as u64;
        if num_bytes > options.max_upload_bytes {
            return Err(ApiError::too_large(
                options.max_upload_bytes,
                &format!("the file '{filename}'"),
            ));
        }
        writer.write_all(&chunk).await.map_err(unreadable)?;
    }
    writer.flush().await.map_err(unreadable)?;
    Ok((kept, filename, media_type))
}

/// The name as the user knows it, in UTF-8, without folders.
fn filename(field: &Field) -> String {
    let Some(disposition) = field.content_disposition() else {
        return String::new();
    };
    let name = match disposition.get_filename_ext() {
        Some(extended) => String::from_utf8_lossy(&extended.value).into_owned(),
        None => disposition.get_filename().unwrap_or_default().to_string(),
    };
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    name.chars()
        .filter(|c| !c.is_control())
        .take(255)
        .collect::<String>()
        .trim()
        .to_string()
}

async fn read_text(mut field: Field, name: &str) -> Result<String, ApiError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = field.next().await {
        let chunk = chunk
            .map_err(|error| ApiError::malformed(format!("the form cannot be read: {error}")))?;
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

async fn skip(field: Field) -> Result<(), ApiError> {
    let read = field.try_for_each(|_| async { Ok(()) });
    read.await
        .map_err(|error| ApiError::malformed(format!("the form cannot be read: {error}")))
}

fn unreadable(error: std::io::Error) -> ApiError {
    ApiError::not_available(format!(
        "the upload cannot be kept: {error}; check the disk's free space"
    ))
}

pub async fn list(
    context: web::Data<Context>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiError> {
    let page = context
        .workspace
        .store
        .list_files(query.purpose.clone(), query.request(10_000, 10_000)?)
        .await?;
    let data = page.items.iter().map(file_json).collect();
    Ok(HttpResponse::Ok().json(page::list(data, page.has_more)))
}

pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let file = context.workspace.store.file(&id).await?;
    Ok(HttpResponse::Ok().json(file_json(&file)))
}

pub async fn delete(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.store.delete_file(&id).await?;
    Ok(HttpResponse::Ok().json(json!({ "id": *id, "object": "file", "deleted": true })))
}

/// The bytes as they came; always a download, so that an uploaded page cannot act as one of ours.
pub async fn content(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let file = context.workspace.store.file(&id).await?;
    let bytes = context.workspace.store.file_content(&id).await?;
    let disposition = ContentDisposition {
        disposition: DispositionType::Attachment,
        parameters: vec![DispositionParam::FilenameExt(header::ExtendedValue {
            charset: header::Charset::Ext("UTF-8".into()),
            language_tag: None,
            value: file.filename.into_bytes(),
        })],
    };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "application/octet-stream"))
        .insert_header(disposition)
        .body(bytes))
}

fn file_json(file: &StoredFile) -> Value {
    json!({
        "id": file.id,
        "object": "file",
        "bytes": file.num_bytes,
        "created_at": file.created_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    })
}
