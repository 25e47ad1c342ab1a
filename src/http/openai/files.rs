//! `/v1/files`: originals, as they were uploaded.

use actix_multipart::Multipart;
use actix_web::http::header::{self, ContentDisposition, DispositionParam, DispositionType};
use actix_web::web::Bytes;
use actix_web::{HttpResponse, web};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::error::ApiError;
use crate::http::openai::expiry::FileExpiry;
use crate::http::openai::form::{self, KeptFile};
use crate::http::openai::page::{self, Deleted, Direction, Listed, Page, PageQuery};
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
#[derive(Default, ToSchema)]
#[schema(as = FileForm)]
pub struct Form {
    /// Not empty, and with a name.
    #[schema(value_type = String, format = Binary)]
    file: Option<KeptFile>,
    #[schema(value_type = Purpose, inline)]
    purpose: Option<String>,
    /// Always `created_at`. A file that does not say when it expires never does.
    #[schema(
        rename = "expires_after[anchor]",
        pattern = "^created_at$",
        nullable = false
    )]
    expiry_anchor: Option<String>,
    /// Seconds after the creation.
    #[schema(rename = "expires_after[seconds]", value_type = Option<u32>, nullable = false, minimum = 3600, maximum = 2592000)]
    expiry_seconds: Option<String>,
}

/// What a file is for. It is kept and shown, and changes nothing else.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub enum Purpose {
    Assistants,
    Batch,
    #[schema(rename = "fine-tune")]
    FineTune,
    Vision,
    UserData,
    Evals,
}

/// A file as it was uploaded.
#[derive(Debug, Serialize, ToSchema)]
pub struct File {
    id: String,
    /// Always `file`.
    object: &'static str,
    bytes: u64,
    /// Unix seconds.
    created_at: i64,
    filename: String,
    #[schema(value_type = Purpose, inline)]
    purpose: String,
    /// Always `processed`.
    status: &'static str,
    /// Unix seconds, of a file that expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<i64>,
}

impl From<&StoredFile> for File {
    fn from(file: &StoredFile) -> Self {
        Self {
            id: file.id.clone(),
            object: "file",
            bytes: file.num_bytes,
            created_at: file.created_at,
            filename: file.filename.clone(),
            purpose: file.purpose.clone(),
            status: "processed",
            expires_at: file.expires_at,
        }
    }
}

impl Listed for File {
    fn id(&self) -> &str {
        &self.id
    }
}

/// Uploads a file
#[utoipa::path(
    post,
    path = "/files",
    operation_id = "create_file",
    tag = "Files",
    request_body(content = Form, content_type = "multipart/form-data"),
    responses((status = 200, body = File))
)]
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
    Ok(HttpResponse::Ok().json(File::from(&stored)))
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

/// The query string of the list of files.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct FilesQuery {
    /// Items in a page, 10000 by default.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10000)]
    limit: Option<String>,
    /// By the time of creation; `desc`, the newest first, is the default.
    #[param(value_type = Option<Direction>, inline)]
    order: Option<String>,
    /// The id that the page begins after.
    after: Option<String>,
    /// The id that the page ends before.
    before: Option<String>,
    /// Lists only the files of this purpose.
    purpose: Option<String>,
}

/// Lists the files
#[utoipa::path(
    get,
    path = "/files",
    operation_id = "list_files",
    tag = "Files",
    params(FilesQuery),
    responses((status = 200, body = Page<File>))
)]
pub async fn list(
    context: web::Data<Context>,
    query: web::Query<FilesQuery>,
) -> Result<HttpResponse, ApiError> {
    let query = query.into_inner();
    let page = PageQuery {
        limit: query.limit,
        order: query.order,
        after: query.after,
        before: query.before,
    };
    let page = context
        .workspace
        .store
        .list_files(query.purpose, page.request(10_000, 10_000)?)
        .await?;
    let data: Vec<File> = page.items.iter().map(File::from).collect();
    Ok(HttpResponse::Ok().json(page::list(data, page.has_more)))
}

/// Shows one file
#[utoipa::path(
    get,
    path = "/files/{id}",
    operation_id = "get_file",
    tag = "Files",
    params(("id" = String, Path)),
    responses((status = 200, body = File))
)]
pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let file = context.workspace.store.file(&id).await?;
    Ok(HttpResponse::Ok().json(File::from(&file)))
}

/// Deletes a file
///
/// It goes out of every vector store, and its text with it.
#[utoipa::path(
    delete,
    path = "/files/{id}",
    operation_id = "delete_file",
    tag = "Files",
    params(("id" = String, Path)),
    responses((status = 200, body = Deleted))
)]
pub async fn delete(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.store.delete_file(&id).await?;
    Ok(HttpResponse::Ok().json(Deleted::new(&*id, "file")))
}

/// Downloads a file
///
/// The bytes as they came.
// A piece is in memory at a time. It is always a download, so that an uploaded page cannot act as one of ours.
#[utoipa::path(
    get,
    path = "/files/{id}/content",
    operation_id = "get_file_content",
    tag = "Files",
    params(("id" = String, Path)),
    responses((status = 200, body = [u8], content_type = "application/octet-stream"))
)]
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
