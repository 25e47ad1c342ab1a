//! `/v1/files`: originals, as they were uploaded.

use actix_multipart::Multipart;
use actix_web::http::header::{self, ContentDisposition, DispositionParam, DispositionType};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use crate::http::error::ApiError;
use crate::http::openai::expiry::FileExpiry;
use crate::http::openai::form::{self, KeptFile};
use crate::http::openai::page::{self, PageQuery};
use crate::http::{Context, HttpOptions};
use crate::store::{Content, NewFile, StoreError, StoredFile};

/// Purposes that clients send.
const PURPOSES: &[&str] = &[
    "assistants",
    "batch",
    "fine-tune",
    "vision",
    "user_data",
    "evals",
];

/// What a form brought.
#[derive(Default)]
struct Form {
    file: Option<KeptFile>,
    purpose: Option<String>,
    expiry_anchor: Option<String>,
    expiry_seconds: Option<String>,
}

pub async fn create(
    context: web::Data<Context>,
    multipart: Multipart,
) -> Result<HttpResponse, ApiError> {
    let form = read_form(multipart, &context.options).await?;
    let expires_after_seconds = expires_after(form.expiry_anchor, form.expiry_seconds)?;
    let purpose = form.purpose.ok_or_else(|| missing("purpose"))?;
    check_purpose(&purpose)?;
    let file = form.file.ok_or_else(|| missing("file"))?;
    let filename = file.filename;
    if filename.is_empty() {
        let message = "the part 'file' has no filename; send it as a file, not as text";
        return Err(ApiError::invalid("file", message));
    }
    if file.num_bytes == 0 {
        let message = format!("the file '{filename}' is empty");
        return Err(ApiError::invalid("file", message));
    }
    let new = NewFile {
        media_type: media_type(file.media_type, &filename),
        filename,
        purpose,
        expires_after_seconds,
    };
    let stored = context
        .workspace
        .store
        .create_file(new, Content::Path(file.content.path().to_path_buf()))
        .await?;
    Ok(HttpResponse::Ok().json(file_json(&stored)))
}

async fn read_form(mut multipart: Multipart, options: &HttpOptions) -> Result<Form, ApiError> {
    let mut form = Form::default();
    while let Some(field) = multipart.next().await {
        let field = field.map_err(form::unreadable)?;
        let name = field.name().unwrap_or_default().to_string();
        let text = match name.as_str() {
            "purpose" => &mut form.purpose,
            "expires_after[anchor]" => &mut form.expiry_anchor,
            "expires_after[seconds]" => &mut form.expiry_seconds,
            "file" => {
                let kept = form::keep_file(field, options, options.max_upload_bytes, "the file");
                form.file = Some(kept.await?);
                continue;
            }
            // Whatever clients add next.
            _ => {
                form::skip(field).await?;
                continue;
            }
        };
        *text = Some(form::read_text(field, &name).await?);
    }
    Ok(form)
}

fn missing(param: &str) -> ApiError {
    ApiError::invalid(param, format!("missing required parameter: '{param}'"))
}

/// Expiry as a form writes it, in two fields.
fn expires_after(anchor: Option<String>, seconds: Option<String>) -> Result<Option<u32>, ApiError> {
    let (anchor, seconds) = match (anchor, seconds) {
        (None, None) => return Ok(None),
        (Some(anchor), Some(seconds)) => (anchor, seconds),
        (None, Some(_)) => return Err(missing("expires_after[anchor]")),
        (Some(_), None) => return Err(missing("expires_after[seconds]")),
    };
    let Ok(seconds) = seconds.trim().parse() else {
        let param = "expires_after[seconds]";
        let message = format!("{param} is '{seconds}', but must be a whole number");
        return Err(ApiError::invalid(param, message));
    };
    FileExpiry { anchor, seconds }.seconds().map(Some)
}

pub fn check_purpose(purpose: &str) -> Result<(), ApiError> {
    if PURPOSES.contains(&purpose) {
        return Ok(());
    }
    let purposes = PURPOSES.join(", ");
    let message = format!("purpose is '{purpose}', but must be one of {purposes}");
    Err(ApiError::invalid("purpose", message))
}

/// The type that the client gave, or what the name suggests when that says nothing.
pub fn media_type(given: Option<String>, filename: &str) -> String {
    let guess = || mime_guess::from_path(filename).first_or_octet_stream();
    given
        .filter(|given| !given.is_empty() && given != "application/octet-stream")
        .unwrap_or_else(|| guess().to_string())
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

/// The bytes as they came, a piece in memory at a time; always a download, so that an uploaded page cannot act as one of
/// ours.
pub async fn content(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let file = context.workspace.store.file(&id).await?;
    let store = context.workspace.store.clone();
    let pieces = stream::try_unfold((store, 0), move |(store, ordinal)| {
        let id = id.clone();
        async move {
            // A file that is deleted meanwhile breaks the answer off, which the reader sees by its length.
            let piece = store.file_segment(&id, ordinal).await?;
            Ok::<_, StoreError>(piece.map(|piece| (Bytes::from(piece), (store, ordinal + 1))))
        }
    });
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
        .no_chunking(file.num_bytes)
        .streaming(pieces))
}

pub fn file_json(file: &StoredFile) -> Value {
    let mut value = json!({
        "id": file.id,
        "object": "file",
        "bytes": file.num_bytes,
        "created_at": file.created_at,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    });
    if let Some(expires_at) = file.expires_at {
        value["expires_at"] = json!(expires_at);
    }
    value
}
