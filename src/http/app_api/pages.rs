//! `GET /api/vector_stores/{id}/files/{file}/pages`: what was found on each page of a document.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::Context;
use crate::http::error::ApiError;
use crate::rag::document::{self, Page};
use crate::rag::extract::PageOutcome;

const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1000;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PagesQuery {
    /// Pages at a time, 100 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// The number of the page that the list begins after.
    after: Option<u32>,
}

/// What was found on the pages of a document, by their numbers.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageList {
    /// Always `list`.
    object: &'static str,
    /// Empty until the document has been read.
    data: Vec<DocumentPage>,
    /// Of the document; 0 while it is not known.
    num_pages: usize,
    /// Whether there are more, `after` the last one.
    has_more: bool,
}

/// A page; in formats without pages, the whole document.
#[derive(Debug, Serialize, ToSchema)]
pub struct DocumentPage {
    /// From 1.
    number: u32,
    #[schema(inline)]
    outcome: Outcome,
    /// Why it failed, what of it was not read, or why a scan was not recognised; null for others.
    #[schema(required)]
    reason: Option<String>,
    /// How sure the recognition of a scan was of its words, from 0 to 100; null for other pages.
    #[schema(required)]
    confidence: Option<u8>,
    /// Of its text.
    num_characters: usize,
    /// Passages that have text of this page; one may have text of several.
    num_passages: usize,
}

/// Whether a page has been read. One that was `read_in_part` lacks what `reason` says. An `empty` one has no text; one that is `scanned` is a picture whose words are not known,
/// and of one that is `recognised` they are.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Read,
    ReadInPart,
    Recognised,
    Empty,
    Scanned,
    Failed,
}

impl From<Page> for DocumentPage {
    fn from(page: Page) -> Self {
        let (outcome, reason, confidence) = match page.outcome {
            PageOutcome::Read => (Outcome::Read, None, None),
            PageOutcome::ReadInPart(reason) => (Outcome::ReadInPart, Some(reason), None),
            PageOutcome::Recognised { confidence } => (Outcome::Recognised, None, Some(confidence)),
            PageOutcome::Empty => (Outcome::Empty, None, None),
            PageOutcome::Scanned(reason) => (Outcome::Scanned, Some(reason), None),
            PageOutcome::Failed(reason) => (Outcome::Failed, Some(reason), None),
        };
        Self {
            number: page.number,
            outcome,
            reason,
            confidence,
            num_characters: page.num_characters,
            num_passages: page.num_passages,
        }
    }
}

/// Lists the pages of a file, and what was found on each
///
/// Of a file that failed, only pages without text are known.
#[utoipa::path(
    get,
    path = "/vector_stores/{id}/files/{file}/pages",
    operation_id = "list_pages",
    tag = "Browser app",
    params(("id" = String, Path), ("file" = String, Path), PagesQuery),
    responses((status = 200, body = PageList))
)]
pub async fn list(
    context: web::Data<Context>,
    path: web::Path<(String, String)>,
    query: web::Query<PagesQuery>,
) -> Result<HttpResponse, ApiError> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let message = format!("limit is {limit}, but must be between 1 and {MAX_LIMIT}");
        return Err(ApiError::invalid("limit", message));
    }
    let store = &context.workspace.store;
    let after = query.after.unwrap_or(0);
    let pages = document::pages(store, &path.0, &path.1, after, limit).await?;
    Ok(HttpResponse::Ok().json(PageList {
        object: "list",
        num_pages: pages.num_pages,
        has_more: pages.has_more,
        data: pages.pages.into_iter().map(DocumentPage::from).collect(),
    }))
}
