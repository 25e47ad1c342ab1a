//! `/v1/uploads`: files that come in parts, for what is too large or too slow for one request.

use actix_multipart::Multipart;
use actix_web::{HttpResponse, web};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::expiry::FileExpiry;
use crate::http::openai::files::{File, Purpose, check_purpose, media_type};
use crate::http::openai::form::{self, KeptFile, clean_filename};
use crate::store;
use crate::store::{NewFile, NewUpload, UploadStatus};

const MAX_PART_BYTES: u64 = 64 << 20;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CreateUpload)]
pub struct CreateRequest {
    /// With a name behind the last slash.
    #[schema(min_length = 1)]
    filename: String,
    #[schema(value_type = Purpose, inline)]
    purpose: String,
    /// Of all parts together.
    #[schema(minimum = 1)]
    bytes: u64,
    /// Where it says nothing, the filename decides.
    mime_type: String,
    /// Of the file that is made.
    expires_after: Option<FileExpiry>,
}

/// A file that comes in parts.
#[derive(Debug, Serialize, ToSchema)]
pub struct Upload {
    id: String,
    /// Always `upload`.
    object: &'static str,
    /// Of the whole file.
    bytes: u64,
    /// Unix seconds.
    created_at: i64,
    /// Unix seconds: an upload that is not complete by then is gone.
    expires_at: i64,
    filename: String,
    #[schema(value_type = Purpose, inline)]
    purpose: String,
    #[schema(inline)]
    status: Status,
    /// Once it is complete.
    #[schema(required)]
    file: Option<File>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    Pending,
    Completed,
    Cancelled,
}

impl From<store::Upload> for Upload {
    fn from(upload: store::Upload) -> Self {
        let (status, file) = match &upload.status {
            UploadStatus::Pending => (Status::Pending, None),
            UploadStatus::Completed(file) => (Status::Completed, Some(File::from(file))),
            UploadStatus::Cancelled => (Status::Cancelled, None),
        };
        Self {
            id: upload.id,
            object: "upload",
            bytes: upload.num_bytes,
            created_at: upload.created_at,
            expires_at: upload.expires_at,
            filename: upload.filename,
            purpose: upload.purpose,
            status,
            file,
        }
    }
}

/// Begins a file that comes in parts
#[utoipa::path(
    post,
    path = "/uploads",
    operation_id = "create_upload",
    tag = "Uploads",
    request_body = CreateRequest,
    responses((status = 200, body = Upload))
)]
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
    Ok(HttpResponse::Ok().json(Upload::from(upload)))
}

/// What a part's form brings.
#[derive(ToSchema)]
pub struct PartForm {
    /// The part's bytes, not empty and at most 64 MiB.
    #[schema(value_type = String, format = Binary)]
    data: Option<KeptFile>,
}

/// A part that is kept.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadPart {
    id: String,
    /// Always `upload.part`.
    object: &'static str,
    /// Unix seconds.
    created_at: i64,
    upload_id: String,
}

/// Adds a part
///
/// Parts may come at the same time and in any order.
#[utoipa::path(
    post,
    path = "/uploads/{id}/parts",
    operation_id = "add_upload_part",
    tag = "Uploads",
    params(("id" = String, Path)),
    request_body(content = PartForm, content_type = "multipart/form-data"),
    responses((status = 200, body = UploadPart))
)]
pub async fn add_part(
    context: web::Data<Context>,
    id: web::Path<String>,
    mut multipart: Multipart,
) -> Result<HttpResponse, ApiError> {
    let mut form = PartForm { data: None };
    while let Some(field) = multipart.next().await {
        let field = field.map_err(form::unreadable)?;
        match field.name().unwrap_or_default() {
            "data" => {
                let kept = form::keep_file(field, &context.options, MAX_PART_BYTES, "the part");
                form.data = Some(kept.await?);
            }
            _ => form::skip(field).await?,
        }
    }
    let data = form.data;
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
    Ok(HttpResponse::Ok().json(UploadPart {
        id: part.id,
        object: "upload.part",
        created_at: part.created_at,
        upload_id: part.upload_id,
    }))
}

/// Parts that a file may be made of.
const MAX_PARTS: usize = 10_000;

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CompleteUpload)]
pub struct CompleteRequest {
    /// In the order of the file.
    #[schema(min_items = 1)]
    part_ids: Vec<String>,
    /// Of the whole file, in hexadecimal; what does not match is refused.
    md5: Option<String>,
}

/// Makes a file of the parts
#[utoipa::path(
    post,
    path = "/uploads/{id}/complete",
    operation_id = "complete_upload",
    tag = "Uploads",
    params(("id" = String, Path)),
    request_body = CompleteRequest,
    responses((status = 200, body = Upload))
)]
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
    Ok(HttpResponse::Ok().json(Upload::from(upload)))
}

/// Cancels an upload
#[utoipa::path(
    post,
    path = "/uploads/{id}/cancel",
    operation_id = "cancel_upload",
    tag = "Uploads",
    params(("id" = String, Path)),
    responses((status = 200, body = Upload))
)]
pub async fn cancel(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let upload = context.workspace.store.cancel_upload(&id).await?;
    Ok(HttpResponse::Ok().json(Upload::from(upload)))
}
