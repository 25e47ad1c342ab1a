//! Runs one import: takes the next page of its queue, asks for it, and writes down what came of it, until there is none.

use std::time::Duration;

use super::ask::Answer;
use super::outcome::{duplicate_of, failed, skipped};
use super::plan::Plan;
use super::request::Target;
use super::site::{self, Scope};
use super::{Gate, ImportOptions};
use crate::fetch::{Content, PageView, Url, Validators, normalized, read_page};
use crate::store::{
    self, AttributeValue, Attributes, Import, ImportPage, NewFile, NewSource, Origin, PageDocument,
    PageOutcome, PageResult, Source, Store, StoreError,
};

/// How often a running visit looks whether its import was cancelled.
const CHECK_PERIOD: Duration = Duration::from_millis(300);
/// Longest text in an attribute.
const MAX_ATTRIBUTE_CHARS: usize = 512;

pub(super) struct Visitor {
    pub store: Store,
    pub options: ImportOptions,
    pub gate: Gate,
}

impl Visitor {
    pub fn new(store: Store, options: ImportOptions) -> Self {
        Self {
            store,
            options,
            gate: Gate::default(),
        }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Runs an import to its end, or until it is no longer ours.
    pub async fn run(&self, import: &Import) -> Result<(), StoreError> {
        let ended = tokio::select! {
            ended = self.work(import) => ended,
            ended = self.until_lost(import) => Err(ended),
        };
        match ended {
            Err(StoreError::ImportGone { .. }) => Ok(()),
            Err(error @ (StoreError::Expired { .. } | StoreError::NotFound { .. })) => {
                let failed = self.store.finish_import(import, Some(error.to_string()));
                match failed.await {
                    Err(StoreError::ImportGone { .. }) => Ok(()),
                    other => other,
                }
            }
            other => other,
        }
    }

    async fn until_lost(&self, import: &Import) -> StoreError {
        loop {
            tokio::time::sleep(CHECK_PERIOD).await;
            if let Err(error) = self.store.check_import(import).await {
                return error;
            }
        }
    }

    async fn work(&self, import: &Import) -> Result<(), StoreError> {
        let plan = match self.plan(import).await? {
            Ok(plan) => plan,
            Err(message) => return self.store.finish_import(import, Some(message)).await,
        };
        let (mut num_fetched, mut num_bytes) = (import.num_fetched, import.num_bytes);
        loop {
            let mut is_limited = false;
            while let Some(page) = self.store.next_import_page(import).await? {
                let limit = plan.limit(num_fetched, num_bytes);
                is_limited |= limit.is_some();
                let result = match limit {
                    Some(message) => skipped("limit", Some(message)),
                    None => self.visit(import, &plan, &page).await?,
                };
                num_fetched += u64::from(result.is_fetched);
                num_bytes += result.num_bytes;
                let max_rows = plan.max_pages * 4 + 1000;
                self.store
                    .finish_import_page(import, &page, result, max_rows)
                    .await?;
            }
            if is_limited || !self.recheck(import, &plan).await? {
                break;
            }
        }
        let error = self.error_of(import).await?;
        self.store.finish_import(import, error).await
    }

    /// What an import that has brought nothing has failed of.
    async fn error_of(&self, import: &Import) -> Result<Option<String>, StoreError> {
        let counts = self.store.import(&import.id).await?.counts;
        if counts.failed == 0 || counts.imported + counts.unchanged + counts.removed > 0 {
            return Ok(None);
        }
        let mut after = 0;
        loop {
            let (pages, next) = self.store.import_pages(&import.id, after, 500).await?;
            let failed = pages
                .into_iter()
                .find(|it| it.outcome == Some(PageOutcome::Failed));
            match (failed, next) {
                (Some(page), _) => {
                    return Ok(Some(format!(
                        "{}: {}",
                        page.url,
                        page.message.unwrap_or_default()
                    )));
                }
                (None, Some(next)) => after = next,
                (None, None) => return Ok(None),
            }
        }
    }

    async fn visit(
        &self,
        import: &Import,
        plan: &Plan,
        page: &ImportPage,
    ) -> Result<PageResult, StoreError> {
        let Ok(url) = Url::parse(&page.url) else {
            return Ok(failed("url", "it cannot be read as an address"));
        };
        if let Target::Arxiv { id } = &plan.request.target {
            return self.visit_paper(import, plan, &url, id).await;
        }
        if let Some(scope) = &plan.scope {
            if !scope.contains(&url) {
                return Ok(skipped("off_prefix", None));
            }
            if site::is_surely_no_document(&url) {
                return Ok(skipped("type", None));
            }
            if !plan.robots.allows(path_and_query(&url)) {
                return Ok(skipped("robots", None));
            }
        }
        if let Some(twin) = self.store.twin_page(import, url.as_str(), None).await? {
            return Ok(duplicate_of(&twin));
        }
        let source = self
            .store
            .source(&import.vector_store_id, &Origin::Web, url.as_str())
            .await?;
        let answer = self.ask(plan, &url, source.as_ref()).await;
        match answer {
            Answer::Content(content) => self.keep(import, plan, page, content).await,
            Answer::NotModified => self.keep_as_it_is(import, plan, page, source).await,
            Answer::None(result) => Ok(result),
        }
    }

    /// Makes a document of a page that was fetched.
    async fn keep(
        &self,
        import: &Import,
        plan: &Plan,
        page: &ImportPage,
        content: Content,
    ) -> Result<PageResult, StoreError> {
        let num_bytes = content.bytes.len() as u64;
        let fetched = |result: PageResult| PageResult {
            is_fetched: true,
            num_bytes,
            ..result
        };
        let media_type = match content.media_type.as_str() {
            "" => mime_guess::from_path(content.url.path())
                .first_or_octet_stream()
                .essence_str()
                .to_owned(),
            named => named.to_owned(),
        };
        if plan.scope.is_some() && !site::is_document_type(&media_type) {
            return Ok(fetched(skipped(
                "type",
                Some(format!("it is {media_type}, and no document")),
            )));
        }
        if content.bytes.is_empty() {
            return Ok(fetched(skipped("empty", None)));
        }
        let is_html = site::is_html(&media_type);
        let (content, view) = match is_html {
            true => {
                let read = tokio::task::spawn_blocking(move || {
                    let view = read_page(&content);
                    (content, view)
                });
                match read.await {
                    Ok(read) => read,
                    Err(_) => return Ok(fetched(failed("html", "reading its HTML crashed"))),
                }
            }
            false => (content, PageView::default()),
        };
        let links = plan.links(&view, page.depth);
        if view.is_noindex && plan.scope.is_some() {
            return Ok(fetched(PageResult {
                links,
                ..skipped("noindex", None)
            }));
        }
        let found_at = normalized(&content.url);
        let canonical = view.canonical.filter(|canonical| {
            let is_inside = |scope: &Scope| scope.contains(canonical);
            plan.scope.as_ref().is_some_and(is_inside)
        });
        let address = String::from(canonical.unwrap_or(found_at));
        let sha256 = store::sha256(&content.bytes);
        if let Some(twin) = self.store.twin_page(import, &address, Some(sha256)).await? {
            return Ok(fetched(duplicate_of(&twin)));
        }
        let mut attributes = plan.request.attributes.clone();
        attributes.insert("source_url".into(), AttributeValue::String(address.clone()));
        put_text(
            &mut attributes,
            "title",
            view.title.as_deref().unwrap_or_default(),
        );
        let charset = content
            .charset
            .as_ref()
            .filter(|_| is_html || media_type.starts_with("text/"));
        let file = NewFile {
            filename: site::file_name(&content.url, &media_type),
            purpose: "assistants".into(),
            media_type: match charset {
                Some(charset) => format!("{media_type}; charset={charset}"),
                None => media_type,
            },
            expires_after_seconds: None,
        };
        let new = NewSource {
            origin: Origin::Web,
            address: address.clone(),
            version: version_of(&content.validators),
            file,
            content: store::Content::Bytes(content.bytes),
            attributes,
            chunking: self.options.chunking,
            password: None,
        };
        Ok(PageResult {
            outcome: PageOutcome::Imported,
            reason: None,
            message: None,
            address: Some(address),
            title: view.title,
            document: PageDocument::Keep(Box::new(new)),
            links,
            is_fetched: true,
            num_bytes,
        })
    }

    /// A page that has not changed: its links are those of the original that was kept.
    async fn keep_as_it_is(
        &self,
        import: &Import,
        plan: &Plan,
        page: &ImportPage,
        source: Option<Source>,
    ) -> Result<PageResult, StoreError> {
        let Some((source, file_id)) = source.and_then(|it| Some((it.clone(), it.file_id?))) else {
            return Ok(failed(
                "status",
                "the server says that it has not changed, but it was never here",
            ));
        };
        let mut view = PageView::default();
        let (file, bytes) = match (
            self.store.file(&file_id).await,
            self.store.file_content(&file_id).await,
        ) {
            (Ok(file), Ok(bytes)) => (file, bytes),
            (Err(StoreError::NotFound { .. }), _) | (_, Err(StoreError::NotFound { .. })) => {
                return Ok(failed(
                    "status",
                    "its document was deleted meanwhile; import it again",
                ));
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        let media_type = file
            .media_type
            .split(';')
            .next()
            .unwrap_or_default()
            .to_owned();
        if plan.scope.is_some()
            && site::is_html(&media_type)
            && let Ok(url) = Url::parse(&page.url)
        {
            let charset = file
                .media_type
                .split_once("charset=")
                .map(|(_, it)| it.to_owned());
            let content = Content {
                url,
                media_type,
                charset,
                validators: Validators::default(),
                robots_tag: None,
                bytes,
            };
            let read = tokio::task::spawn_blocking(move || read_page(&content)).await;
            view = read.unwrap_or_default();
        }
        let links = plan.links(&view, page.depth);
        if let Some(twin) = self
            .store
            .twin_page(import, &source.address, Some(source.sha256))
            .await?
        {
            return Ok(PageResult {
                is_fetched: true,
                ..duplicate_of(&twin)
            });
        }
        Ok(PageResult {
            outcome: PageOutcome::Unchanged,
            reason: None,
            message: None,
            address: Some(source.address.clone()),
            title: view.title,
            document: PageDocument::Same {
                address: source.address,
                version: source.version,
            },
            links,
            is_fetched: true,
            num_bytes: 0,
        })
    }
}

pub(super) fn version_of(validators: &Validators) -> String {
    serde_json::to_string(validators).expect("validators are plain data")
}

pub(super) fn path_and_query(url: &Url) -> &str {
    &url[url::Position::BeforePath..url::Position::AfterQuery]
}

pub(super) fn put_text(attributes: &mut Attributes, name: &str, value: &str) {
    let value: String = value.chars().take(MAX_ATTRIBUTE_CHARS).collect();
    if !value.is_empty() {
        attributes.insert(name.to_owned(), AttributeValue::String(value));
    }
}
