//! `/v1/vector_stores/{id}/files`: documents of a vector store, from attached to searchable.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::{JsonBody, nullable};
use crate::http::openai::attributes;
use crate::http::openai::chunking::{ChunkingChoice, ChunkingStrategy};
use crate::http::openai::found::TextContent;
use crate::http::openai::page::{self, Deleted, Page, PageQuery};
use crate::http::openai::vector_store_file::VectorStoreFile;
use crate::rag::ingest::allowed_chunking;
use crate::store::{Chunking, DocumentStatus, IfExists, NewDocument, Password};

/// Milliseconds after which a client that polls should ask again.
const POLL_AFTER_MS: &str = "100";

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AttachFile)]
pub struct AttachRequest {
    pub file_id: String,
    #[schema(schema_with = attributes::schema)]
    pub attributes: Option<Map<String, Value>>,
    #[schema(value_type = Option<ChunkingChoice>)]
    pub chunking_strategy: Option<ChunkingStrategy>,
    #[schema(value_type = Option<IfExistsChoice>, inline)]
    pub if_exists: Option<String>,
    /// Opens an encrypted PDF. It is kept until the file is read, and shown nowhere.
    #[schema(value_type = Option<String>, max_length = 1024, write_only)]
    pub password: Option<Password>,
}

/// What becomes of the file when the vector store has others of its name. `keep`, the default: nothing. `skip`: it is not
/// attached when one of them has the same content. `replace`: they go once it is completed, and their files with them where
/// these are attached nowhere else; it is not attached when the newest of them has the same content.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum IfExistsChoice {
    Keep,
    Skip,
    Replace,
}

/// Attaches a file
///
/// It is read in the background, and searched once it is `completed`.
#[utoipa::path(
    post,
    path = "/vector_stores/{id}/files",
    operation_id = "attach_file",
    tag = "Vector stores",
    params(("id" = String, Path)),
    request_body = AttachRequest,
    responses((status = 200, body = VectorStoreFile))
)]
pub async fn attach(
    context: web::Data<Context>,
    store_id: web::Path<String>,
    body: JsonBody<AttachRequest>,
) -> Result<HttpResponse, ApiError> {
    let store = &context.workspace.store;
    let new = new_document(&context, body.0, store.chunking_of(&store_id).await?)?;
    let attached = store.attach_new(&store_id, new).await?;
    Ok(HttpResponse::Ok().json(VectorStoreFile::from(attached)))
}

/// A checked request, of a collection whose documents are cut so. The sizes are those that the embedder allows, and are
/// shown so.
pub fn new_document(
    context: &Context,
    request: AttachRequest,
    of_collection: Option<Chunking>,
) -> Result<NewDocument, ApiError> {
    let embedder = context.documents_embedder()?;
    let attributes = attributes::checked(request.attributes.unwrap_or_default())?;
    let (own, of_others) = match &request.chunking_strategy {
        Some(strategy) => (strategy.sizes()?, None),
        None => (None, of_collection),
    };
    let chunking = own.or(of_others).unwrap_or(context.workspace.chunking);
    Ok(NewDocument {
        file_id: request.file_id,
        attributes,
        chunking: allowed_chunking(chunking, embedder),
        has_own_chunking: own.is_some(),
        if_exists: if_exists(request.if_exists.as_deref())?,
        password: password(request.password)?,
    })
}

/// An empty one is none: documents that need no password are opened with it anyway.
fn password(password: Option<Password>) -> Result<Option<Password>, ApiError> {
    const MAX_BYTES: usize = 1024;
    let num_bytes = password.as_ref().map_or(0, |it| it.expose().len());
    if num_bytes > MAX_BYTES {
        let message = format!("password has {num_bytes} bytes, more than the limit of {MAX_BYTES}");
        return Err(ApiError::invalid("password", message));
    }
    Ok(password.filter(|_| num_bytes > 0))
}

fn if_exists(choice: Option<&str>) -> Result<IfExists, ApiError> {
    match choice {
        None | Some("keep") => Ok(IfExists::Keep),
        Some("skip") => Ok(IfExists::Skip),
        Some("replace") => Ok(IfExists::Replace),
        Some(other) => {
            let message = format!("if_exists is '{other}', but must be keep, skip or replace");
            Err(ApiError::invalid("if_exists", message))
        }
    }
}

/// The answer to a client that may be waiting for the end of something: while that is not reached, the header that the
/// clients' polling helpers read says when to ask again.
pub fn polled(is_in_progress: bool, body: impl Serialize) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if is_in_progress {
        response.insert_header(("openai-poll-after-ms", POLL_AFTER_MS));
    }
    response.json(body)
}

/// Which files are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StatusQuery {
    /// Lists only the files that are so far.
    #[param(value_type = Option<DocumentStatus>, inline)]
    filter: Option<String>,
}

/// Lists the files of a vector store
#[utoipa::path(
    get,
    path = "/vector_stores/{id}/files",
    operation_id = "list_vector_store_files",
    tag = "Vector stores",
    params(("id" = String, Path), PageQuery, StatusQuery),
    responses((status = 200, body = Page<VectorStoreFile>))
)]
pub async fn list(
    context: web::Data<Context>,
    store_id: web::Path<String>,
    query: web::Query<PageQuery>,
    filter: web::Query<StatusQuery>,
) -> Result<HttpResponse, ApiError> {
    let status = filter.status()?;
    let page = context
        .workspace
        .store
        .list_documents(&store_id, status, query.request(20, 100)?)
        .await?;
    let data = page.items.into_iter().map(VectorStoreFile::from);
    Ok(HttpResponse::Ok().json(page::list(data.collect(), page.has_more)))
}

impl StatusQuery {
    pub fn status(&self) -> Result<Option<DocumentStatus>, ApiError> {
        match self.filter.as_deref() {
            None => Ok(None),
            Some("in_progress") => Ok(Some(DocumentStatus::InProgress)),
            Some("completed") => Ok(Some(DocumentStatus::Completed)),
            Some("failed") => Ok(Some(DocumentStatus::Failed)),
            Some("cancelled") => Ok(Some(DocumentStatus::Cancelled)),
            Some(other) => {
                let message = format!(
                    "filter is '{other}', but must be in_progress, completed, failed or cancelled"
                );
                Err(ApiError::invalid("filter", message))
            }
        }
    }
}

/// Shows one file of a vector store
#[utoipa::path(
    get,
    path = "/vector_stores/{id}/files/{file}",
    operation_id = "get_vector_store_file",
    tag = "Vector stores",
    params(("id" = String, Path), ("file" = String, Path)),
    responses((
        status = 200,
        body = VectorStoreFile,
        headers(("openai-poll-after-ms" = u32, description = "When to ask again, while it is in progress"))
    ))
)]
pub async fn get(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let document = context.workspace.store.document(&path.0, &path.1).await?;
    let is_in_progress = document.status == DocumentStatus::InProgress;
    Ok(polled(is_in_progress, VectorStoreFile::from(document)))
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UpdateVectorStoreFile)]
pub struct UpdateRequest {
    /// Null takes all away.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(schema_with = attributes::schema, required)]
    attributes: Option<Option<Map<String, Value>>>,
}

/// Changes the attributes of a file
///
/// All of them: what is not named goes.
#[utoipa::path(
    post,
    path = "/vector_stores/{id}/files/{file}",
    operation_id = "update_vector_store_file",
    tag = "Vector stores",
    params(("id" = String, Path), ("file" = String, Path)),
    request_body = UpdateRequest,
    responses((status = 200, body = VectorStoreFile))
)]
pub async fn update(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
    body: JsonBody<UpdateRequest>,
) -> Result<HttpResponse, ApiError> {
    let attributes = body.0.attributes.ok_or_else(|| {
        ApiError::invalid("attributes", "missing required parameter: 'attributes'")
    })?;
    let attributes = attributes::checked(attributes.unwrap_or_default())?;
    let document = context
        .workspace
        .store
        .update_attributes(&path.0, &path.1, attributes)
        .await?;
    Ok(HttpResponse::Ok().json(VectorStoreFile::from(document)))
}

/// Takes a file out of a vector store
///
/// The file itself stays.
#[utoipa::path(
    delete,
    path = "/vector_stores/{id}/files/{file}",
    operation_id = "detach_file",
    tag = "Vector stores",
    params(("id" = String, Path), ("file" = String, Path)),
    responses((status = 200, body = Deleted))
)]
pub async fn detach(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    context.workspace.store.detach(&path.0, &path.1).await?;
    Ok(HttpResponse::Ok().json(Deleted::new(&path.1, "vector_store.file.deleted")))
}

/// A document's text, all at once.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileContent {
    /// Always `vector_store.file_content.page`.
    object: &'static str,
    /// Empty until the document has been read.
    data: Vec<TextContent>,
    /// Always false.
    has_more: bool,
    /// Always null.
    #[schema(required)]
    next_page: Option<String>,
}

/// Shows the text of a file
///
/// As it was extracted: citations count their bytes in it.
#[utoipa::path(
    get,
    path = "/vector_stores/{id}/files/{file}/content",
    operation_id = "get_vector_store_file_content",
    tag = "Vector stores",
    params(("id" = String, Path), ("file" = String, Path)),
    responses((status = 200, body = FileContent))
)]
pub async fn content(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, ApiError> {
    let store = &context.workspace.store;
    store.document(&path.0, &path.1).await?;
    let extraction = store.extraction(&path.1).await?;
    let data = extraction
        .into_iter()
        .map(|extraction| TextContent::new(extraction.text));
    Ok(HttpResponse::Ok().json(FileContent {
        object: "vector_store.file_content.page",
        data: data.collect(),
        has_more: false,
        next_page: None,
    }))
}
