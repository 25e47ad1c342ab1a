//! `/api/imports`: documents from the web, where the owner allows it: a page, a site, a paper of arXiv.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::http::json::JsonBody;
use crate::http::openai::attributes;
use crate::http::openai::page::{self, Listed, Page, PageQuery};
use crate::http::sse::{self, Frame};
use crate::rag::import::{
    BadRequest, ImportError, ImportRequest, Imports, Target, reason_in_words,
};
use crate::store::{self, Attributes, DocumentStatus, ImportCounts, ImportStatus, PageOutcome};

/// Attributes that a request may give: an import adds its own.
const MAX_ATTRIBUTES: usize = 8;
/// Pages shown at a time.
const MAX_PAGES: usize = 1000;
/// How often a stream looks for news.
const POLL: Duration = Duration::from_millis(200);

const OFF: &str = "importing from the web is off on this server; its owner can allow it with the setting \
    web_import = \"on\" (INGLENOOK_WEB_IMPORT=on)";

/// What is to be imported: one of `url`, `site` and `arxiv`.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CreateImport {
    /// One document.
    url: Option<String>,
    /// The first page of a site, whose links are followed.
    site: Option<String>,
    /// An id such as `1706.03762v7` or `hep-th/9901001`, or the address of the paper's page.
    arxiv: Option<String>,
    /// Of a site: only pages below this address; without it, below the folder of the first page.
    prefix: Option<String>,
    /// Of a site: a sitemap with further first pages; without it, those that robots.txt names.
    sitemap: Option<String>,
    /// Of a site, 500 when absent.
    #[schema(minimum = 1, maximum = 50000)]
    max_pages: Option<u32>,
    /// Of a site: links between the first page and the last; 16 when absent.
    #[schema(maximum = 100)]
    max_depth: Option<u32>,
    /// Whether documents whose pages are gone are removed.
    remove_missing: Option<bool>,
    /// Without it the default one.
    vector_store_id: Option<String>,
    /// At most 8. The import adds `source_url` and `title`, and of papers `arxiv_id`, `authors`, `abstract`,
    /// `categories`, `published` and `updated`.
    #[schema(schema_with = attributes::schema)]
    attributes: Option<Map<String, Value>>,
}

/// An import, and how far it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Import {
    id: String,
    /// Always `import`.
    object: &'static str,
    kind: ImportKind,
    /// The address or id that was asked for.
    source: String,
    /// Of a site.
    #[schema(required)]
    prefix: Option<String>,
    vector_store_id: String,
    status: Status,
    /// Why it failed.
    #[schema(required)]
    error: Option<String>,
    /// Seconds since 1970.
    created_at: i64,
    #[schema(required)]
    finished_at: Option<i64>,
    counts: Counts,
    /// Of all that was fetched.
    num_bytes: u64,
    /// Links for which there was no room.
    num_dropped: u64,
    remove_missing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ImportState)]
enum Status {
    /// Or about to.
    Running,
    Completed,
    Failed,
    Cancelled,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ImportKind {
    Url,
    Site,
    Arxiv,
    /// Made by another version of the program.
    Unknown,
}

/// Pages by outcome.
#[derive(Debug, Serialize, ToSchema)]
struct Counts {
    /// Known, and not visited yet.
    queued: u64,
    imported: u64,
    unchanged: u64,
    skipped: u64,
    failed: u64,
    gone: u64,
    removed: u64,
}

/// An import with its pages.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportWithPages {
    #[serde(flatten)]
    import: Import,
    /// In the order in which they are visited.
    pages: Vec<ImportPage>,
    /// What the next pages are asked for with; null at the end.
    #[schema(required)]
    next_after: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct ImportPage {
    url: String,
    /// Links between the first page and this one.
    depth: u32,
    /// Null until it was visited.
    #[schema(required)]
    outcome: Option<PageOutcome>,
    /// In one word: `robots`, `off_prefix`, `type`, `limit`, `duplicate`, `noindex`, `empty`, `status`, `timeout`,
    /// `connection`, `private_address`, `port`, `redirects`, `too_large`, `url`, `html`, `arxiv`.
    #[schema(required)]
    reason: Option<String>,
    /// The reason in words.
    #[schema(required)]
    message: Option<String>,
    #[schema(required)]
    title: Option<String>,
    #[schema(required)]
    file_id: Option<String>,
    /// How far its document is.
    #[schema(required)]
    document_status: Option<DocumentStatus>,
    #[schema(required)]
    document_error: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PagesQuery {
    /// Pages shown, 1000 when absent and at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// `next_after` of the answer before.
    after: Option<i64>,
}

/// What is answered when an import is cancelled or forgotten.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedImport {
    id: String,
    /// Always `import.deleted`.
    object: &'static str,
    /// False when it was running, and is cancelled now.
    deleted: bool,
    status: Status,
}

impl From<ImportStatus> for Status {
    fn from(status: ImportStatus) -> Self {
        match status {
            ImportStatus::Queued | ImportStatus::InProgress => Self::Running,
            ImportStatus::Completed => Self::Completed,
            ImportStatus::Failed => Self::Failed,
            ImportStatus::Cancelled => Self::Cancelled,
        }
    }
}

impl From<store::Import> for Import {
    fn from(import: store::Import) -> Self {
        let request = ImportRequest::from_json(&import.request);
        let target = request.as_ref().map(|request| &request.target);
        let (kind, prefix) = match target {
            Some(Target::Url { .. }) => (ImportKind::Url, None),
            Some(Target::Site { prefix, .. }) => (ImportKind::Site, Some(prefix.to_string())),
            Some(Target::Arxiv { .. }) => (ImportKind::Arxiv, None),
            None => (ImportKind::Unknown, None),
        };
        Self {
            object: "import",
            kind,
            prefix,
            source: target.map(Target::name).unwrap_or_default(),
            remove_missing: request.is_some_and(|request| request.remove_missing),
            id: import.id,
            vector_store_id: import.vector_store_id,
            status: import.status.into(),
            error: import.error,
            created_at: import.created_at,
            finished_at: import.finished_at,
            counts: import.counts.into(),
            num_bytes: import.num_bytes,
            num_dropped: import.num_dropped,
        }
    }
}

impl From<ImportCounts> for Counts {
    fn from(counts: ImportCounts) -> Self {
        let ImportCounts {
            queued,
            imported,
            unchanged,
            skipped,
            failed,
            gone,
            removed,
        } = counts;
        Self {
            queued,
            imported,
            unchanged,
            skipped,
            failed,
            gone,
            removed,
        }
    }
}

impl From<store::ImportPage> for ImportPage {
    fn from(page: store::ImportPage) -> Self {
        Self {
            url: page.url,
            depth: page.depth,
            outcome: page.outcome,
            message: page.message.or_else(|| {
                let words = page.reason.as_deref().and_then(reason_in_words);
                words.map(str::to_owned)
            }),
            reason: page.reason,
            title: page.title,
            file_id: page.file_id,
            document_status: page.document_status,
            document_error: page.document_error,
        }
    }
}

impl Listed for Import {
    fn id(&self) -> &str {
        &self.id
    }
}

impl CreateImport {
    /// What was asked for, checked.
    fn request(self) -> Result<(ImportRequest, Option<String>), ApiError> {
        let of_site = [
            ("prefix", self.prefix.is_some()),
            ("sitemap", self.sitemap.is_some()),
            ("max_pages", self.max_pages.is_some()),
            ("max_depth", self.max_depth.is_some()),
        ];
        let given = of_site.iter().find(|(_, is_given)| *is_given);
        if let (None, Some((name, _))) = (&self.site, given) {
            let message =
                format!("{name} belongs to an import of a site; name its first page in 'site'");
            return Err(ApiError::invalid(*name, message));
        }
        let target = match (self.url, self.site, self.arxiv) {
            (Some(url), None, None) => Target::url(&url).map_err(|error| bad("url", error)),
            (None, None, Some(id)) => Target::arxiv(&id).map_err(|error| bad("arxiv", error)),
            (None, Some(site), None) => Target::site(
                &site,
                self.prefix.as_deref(),
                self.sitemap.as_deref(),
                self.max_pages,
                self.max_depth,
            )
            .map_err(|error| bad("site", error)),
            _ => {
                let message = "name exactly one of 'url', 'site' and 'arxiv'";
                Err(ApiError::invalid("url", message))
            }
        };
        let attributes: Attributes = attributes::checked(self.attributes.unwrap_or_default())?;
        if attributes.len() > MAX_ATTRIBUTES {
            let message = format!(
                "attributes has {} keys, but may have {MAX_ATTRIBUTES}, as the import adds its own",
                attributes.len()
            );
            return Err(ApiError::invalid("attributes", message));
        }
        let request = ImportRequest {
            target: target?,
            attributes,
            remove_missing: self.remove_missing.unwrap_or(false),
        };
        Ok((request, self.vector_store_id))
    }
}

/// What is wrong with a request, in the parameter that it is about.
fn bad(param: &'static str, error: BadRequest) -> ApiError {
    let message = error.to_string();
    match error {
        BadRequest::Prefix { .. } => ApiError::invalid("prefix", message),
        BadRequest::OutOfRange { name, .. } => ApiError::invalid(name, message),
        BadRequest::Address(_) | BadRequest::Arxiv(_) => ApiError::invalid(param, message),
    }
}

fn allowed(context: &Context) -> Result<&Imports, ApiError> {
    context
        .imports
        .as_ref()
        .ok_or_else(|| ApiError::forbidden(OFF))
}

/// Imports documents from the web
///
/// Only where the owner set `web_import`. The documents come in the background; they are searched once they are read.
#[utoipa::path(
    post,
    path = "/imports",
    operation_id = "create_import",
    tag = "Browser app",
    request_body = CreateImport,
    responses((status = 200, body = Import))
)]
pub async fn create(
    context: web::Data<Context>,
    body: JsonBody<CreateImport>,
) -> Result<HttpResponse, ApiError> {
    let imports = allowed(&context)?;
    context.documents_embedder()?;
    let (request, vector_store_id) = body.0.request()?;
    let param = match request.target {
        Target::Url { .. } => "url",
        Target::Site { .. } => "site",
        Target::Arxiv { .. } => "arxiv",
    };
    let store = &context.workspace.store;
    let vector_store_id = match vector_store_id.filter(|id| !id.is_empty()) {
        Some(id) => id,
        None => store.default_vector_store().await?.id,
    };
    match imports.create(store, &vector_store_id, request).await {
        Ok(import) => Ok(HttpResponse::Ok().json(Import::from(import))),
        Err(ImportError::Request(error)) => Err(bad(param, error)),
        Err(ImportError::Store(error)) => Err(error.into()),
    }
}

/// Lists imports
#[utoipa::path(
    get,
    path = "/imports",
    operation_id = "list_imports",
    tag = "Browser app",
    params(PageQuery),
    responses((status = 200, body = Page<Import>))
)]
pub async fn list(
    context: web::Data<Context>,
    query: web::Query<PageQuery>,
) -> Result<HttpResponse, ApiError> {
    let page = context
        .workspace
        .store
        .list_imports(query.request(20, 100)?)
        .await?;
    let data = page.items.into_iter().map(Import::from);
    Ok(HttpResponse::Ok().json(page::list(data.collect(), page.has_more)))
}

/// Shows an import with its pages
#[utoipa::path(
    get,
    path = "/imports/{id}",
    operation_id = "get_import",
    tag = "Browser app",
    params(("id" = String, Path), PagesQuery),
    responses((status = 200, body = ImportWithPages))
)]
pub async fn get(
    context: web::Data<Context>,
    id: web::Path<String>,
    query: web::Query<PagesQuery>,
) -> Result<HttpResponse, ApiError> {
    let limit = query.limit.unwrap_or(MAX_PAGES);
    if !(1..=MAX_PAGES).contains(&limit) {
        let message = format!("limit is {limit}, but must be between 1 and {MAX_PAGES}");
        return Err(ApiError::invalid("limit", message));
    }
    let store = &context.workspace.store;
    let import = store.import(&id).await?;
    let (pages, next_after) = store
        .import_pages(&id, query.after.unwrap_or(0), limit)
        .await?;
    Ok(HttpResponse::Ok().json(ImportWithPages {
        import: import.into(),
        pages: pages.into_iter().map(ImportPage::from).collect(),
        next_after,
    }))
}

/// Cancels an import, or forgets one that has ended
///
/// What it has brought stays.
#[utoipa::path(
    delete,
    path = "/imports/{id}",
    operation_id = "delete_import",
    tag = "Browser app",
    params(("id" = String, Path)),
    responses((status = 200, body = DeletedImport))
)]
pub async fn delete(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let store = &context.workspace.store;
    let import = store.import(&id).await?;
    let deleted = import.status.is_ended();
    let status = match deleted {
        true => {
            store.forget_import(&id).await?;
            import.status
        }
        false => store.cancel_import(&id).await?.status,
    };
    Ok(HttpResponse::Ok().json(DeletedImport {
        id: id.into_inner(),
        object: "import.deleted",
        deleted,
        status: status.into(),
    }))
}

/// Streams the progress of an import
///
/// Events `import.progress`, each with the import, and at its end `import.completed`, `import.failed` or
/// `import.cancelled`.
#[utoipa::path(
    get,
    path = "/imports/{id}/events",
    operation_id = "stream_import",
    tag = "Browser app",
    params(("id" = String, Path)),
    responses((status = 200, content((Import = "text/event-stream"))))
)]
pub async fn events(
    context: web::Data<Context>,
    id: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    let store = context.workspace.store.clone();
    let mut import = store.import(&id).await?;
    let keep_alive = context.options.sse_keep_alive;
    Ok(sse::respond(keep_alive, move |frames| async move {
        loop {
            let name = match import.status {
                ImportStatus::Queued | ImportStatus::InProgress => "import.progress",
                ImportStatus::Completed => "import.completed",
                ImportStatus::Failed => "import.failed",
                ImportStatus::Cancelled => "import.cancelled",
            };
            let is_ended = import.status.is_ended();
            let shown = serde_json::to_value(Import::from(import.clone())).expect("plain data");
            frames.send(Frame::Event(name, shown)).await?;
            if is_ended {
                return Ok(());
            }
            loop {
                tokio::time::sleep(POLL).await;
                match store.import(&id).await {
                    Ok(now) if now == import => continue,
                    Ok(now) => import = now,
                    // It was forgotten.
                    Err(_) => return Ok(()),
                }
                break;
            }
        }
    }))
}
