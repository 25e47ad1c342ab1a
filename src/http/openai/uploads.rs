//! `/v1/uploads`: files that come in parts, for what is too large or too slow for one request.

use actix_multipart::Multipart;
use actix_web::{HttpResponse, web};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::expiry::FileExpiry;
use crate::http::openai::files::{check_purpose, file_json, media_type};
use crate::http::openai::form::{self, clean_filename};
use crate::store::{NewFile, NewUpload, Upload, UploadStatus};

const MAX_PART_BYTES: u64 = 64 << 20;

#[derive(Debug, Deserialize)]
pub struct CreateRequest {
    filename: String,
    purpose: String,
    bytes: u64,
    mime_type: String,
    expires_after: Option<FileExpiry>,
}

pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<CreateRequest>,
) -> Result<HttpResponse, ApiError> {
    let request = body.0;
    check_purpose(&request.purpose)?;
    let filename = clean_filename(&request.filename);
    if filename.is_empty() {
        return Err(ApiError::invalid("filename", "filename is empty"));
    }
    let max_bytes = context.options.max_upload_bytes;
    match request.bytes {
        0 => return Err(ApiError::invalid("bytes", "bytes is 0, but must be above")),
        bytes if bytes > max_bytes => {
            let what = format!("the file '{filename}'");
            return Err(ApiError::too_large(max_bytes, &what).about("bytes"));
        }
        _ => {}
    }
    let expires_after = request.expires_after;
    let file = NewFile {
        media_type: media_type(Some(request.mime_type), &filename),
        filename,
        purpose: request.purpose,
        expires_after_seconds: expires_after.map(|it| it.seconds()).transpose()?,
    };
    let new = NewUpload {
        file,
        num_bytes: request.bytes,
    };
    let upload = context.workspace.store.create_upload(new).await?;
    Ok(HttpResponse::Ok().json(upload_json(&upload)))
}

pub async fn add_part(
    context: web::Data<Context>,
    id: web::Path<String>,
    mut multipart: Multipart,
) -> Result<HttpResponse, ApiError> {
    let mut data = None;
    while let Some(field) = multipart.next().await {
        let field = field.map_err(form::unreadable)?;
        match field.name().unwrap_or_default() {
            "data" => {
                let kept = form::keep_file(field, &context.options, MAX_PART_BYTES, "the part");
                data = Some(kept.await?);
            }
            _ => form::skip(field).await?,
        }
    }
    let data =
        data.ok_or_else(|| ApiError::invalid("data", "missing required parameter: 'data'"))?;
    if data.num_bytes == 0 {
        return Err(ApiError::invalid("data", "the part is empty"));
    }
    let part = context
        .workspace
        .store
        .add_upload_part(&id, data.content.path().to_path_buf())
        .await?;
    Ok(HttpResponse::Ok().json(json!({
        "id": part.id,
        "object": "upload.part",
        "created_at": part.created_at,
        "upload_id": part.upload_id,
    })))
}

/// Parts that a file may be made of.
const MAX_PARTS: usize = 10_000;

#[derive(Debug, Deserialize)]
pub struct CompleteRequest {
    part_ids: Vec<String>,
    md5: Option<String>,
}

pub async fn complete(
    context: web::Data<Context>,
    id: web::Path<String>,
    body: JsonBody<CompleteRequest>,
) -> Result<HttpResponse, ApiError> {
    let CompleteRequest { part_ids, md5 } = body.0;
    if part_ids.len() > MAX_PARTS {
        let message = format!(
            "part_ids has {} parts, but may have {MAX_PARTS}; send larger ones",
            part_ids.len()
        );
        return Err(ApiError::invalid("part_ids", message));
    }
    let store = &context.workspace.store;
    let upload = store.complete_upload(&id, part_ids, md5).await?;
    Ok(HttpResponse::Ok().json(upload_json(&upload)))
}

pub async fn cancel(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let upload = context.workspace.store.cancel_upload(&id).await?;
    Ok(HttpResponse::Ok().json(upload_json(&upload)))
}

fn upload_json(upload: &Upload) -> Value {
    let (status, file) = match &upload.status {
        UploadStatus::Pending => ("pending", Value::Null),
        UploadStatus::Completed(file) => ("completed", file_json(file)),
        UploadStatus::Cancelled => ("cancelled", Value::Null),
    };
    json!({
        "id": upload.id,
        "object": "upload",
        "bytes": upload.num_bytes,
        "created_at": upload.created_at,
        "expires_at": upload.expires_at,
        "filename": upload.filename,
        "purpose": upload.purpose,
        "status": status,
        "file": file,
    })
}
