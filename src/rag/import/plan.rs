//! What an import is about: its first pages, the rules of its site, its limits.

use std::sync::Arc;
use std::time::Duration;

use super::request::{ImportRequest, Target};
use super::site::{self, Scope};
use super::visit::Visitor;
use crate::fetch::{
    FetchError, Fetched, PageView, Request, Robots, Sitemap, Url, Validators, parse_url,
    read_sitemap,
};
use crate::store::{Import, Origin, StoreError, unix_now};

/// The name that robots.txt may call us by.
const PRODUCT: &str = "inglenook";
/// Robots files are small; what is larger is none.
const MAX_ROBOTS_BYTES: u64 = 1 << 20;
const MAX_SITEMAP_BYTES: u64 = 50 << 20;
const MAX_SITEMAPS: usize = 50;
/// Of one import.
const MAX_TOTAL_BYTES: u64 = 4 << 30;
const MAX_SECONDS: i64 = 24 * 3600;

/// What holds for all pages of an import.
pub(super) struct Plan {
    pub request: ImportRequest,
    /// Pages that a site is made of; `None` for a single page.
    pub scope: Option<Scope>,
    pub robots: Arc<Robots>,
    pub max_pages: u64,
    pub max_depth: u32,
    pub deadline: i64,
}

impl Plan {
    /// Which limit is reached, if any is.
    pub(super) fn limit(&self, num_fetched: u64, num_bytes: u64) -> Option<String> {
        if num_fetched >= self.max_pages {
            Some(format!(
                "the import has read {num_fetched} pages, as many as it may"
            ))
        } else if num_bytes >= MAX_TOTAL_BYTES {
            Some(format!(
                "the import has read {num_bytes} bytes, as many as it may"
            ))
        } else if unix_now() >= self.deadline {
            Some(format!(
                "the import has taken {MAX_SECONDS} seconds, as long as it may"
            ))
        } else {
            None
        }
    }

    /// The links of a page that are pages of the site, and those that somebody may miss, with the reason. Links to other
    /// hosts are nothing to be told of.
    pub(super) fn links(&self, view: &PageView, depth: u32) -> Vec<(String, Option<&'static str>)> {
        let Some(scope) = &self.scope else {
            return Vec::new();
        };
        let links = view.links.iter().filter(|link| scope.is_same_host(link));
        let judged = links.map(|link| {
            let reason = if !scope.contains(link) {
                Some("off_prefix")
            } else if site::is_surely_no_document(link) {
                Some("type")
            } else if depth >= self.max_depth {
                Some("limit")
            } else {
                None
            };
            (link.to_string(), reason)
        });
        judged.collect()
    }
}

impl Visitor {
    /// What the import is about, with its first pages queued; or why it cannot be.
    pub(super) async fn plan(&self, import: &Import) -> Result<Result<Plan, String>, StoreError> {
        let Some(request) = ImportRequest::from_json(&import.request) else {
            return Ok(Err(
                "another version of the program made this import; begin it anew".into(),
            ));
        };
        let mut plan = Plan {
            request,
            scope: None,
            robots: Arc::default(),
            max_pages: 1,
            max_depth: 0,
            deadline: import.created_at + MAX_SECONDS,
        };
        let Target::Site {
            start,
            prefix,
            sitemap,
            max_pages,
            max_depth,
        } = plan.request.target.clone()
        else {
            return Ok(Ok(plan));
        };
        let scope = Scope::below(&prefix);
        plan.max_pages = max_pages.into();
        plan.max_depth = max_depth;
        plan.robots = match self.robots(&start).await {
            Ok(robots) => Arc::new(robots),
            Err(message) => return Ok(Err(message)),
        };
        let mut sitemaps: Vec<String> = sitemap.iter().map(Url::to_string).collect();
        if sitemap.is_none() {
            sitemaps.extend(plan.robots.sitemaps.iter().cloned());
        }
        let delay = plan.robots.crawl_delay;
        let mut pages = Vec::new();
        let mut num_read = 0;
        while num_read < sitemaps.len().min(MAX_SITEMAPS) {
            let address = sitemaps[num_read].clone();
            num_read += 1;
            match self.sitemap(&address, delay).await {
                Ok(Sitemap::Pages(found)) => pages.extend(found),
                Ok(Sitemap::Index(found)) => sitemaps.extend(found),
                // The one that somebody named is wanted; others are a help.
                Err(error) if sitemap.is_some() => {
                    return Ok(Err(format!("the sitemap {address}: {error}")));
                }
                Err(error) => tracing::warn!(sitemap = address, error, "a sitemap is left out"),
            }
        }
        let pages = pages.iter().filter_map(|page| parse_url(page).ok());
        let pages = pages.filter(|page| scope.contains(page)).map(String::from);
        let pages: Vec<String> = pages.take(max_pages as usize * 4).collect();
        self.store.add_import_pages(import, pages, 1).await?;
        plan.scope = Some(scope);
        Ok(Ok(plan))
    }

    /// Queues the documents of this site that no link has led to this time, and says whether there were any.
    pub(super) async fn recheck(&self, import: &Import, plan: &Plan) -> Result<bool, StoreError> {
        let Some(scope) = &plan.scope else {
            return Ok(false);
        };
        let mut unseen = Vec::new();
        for source in self
            .store
            .sources(&import.vector_store_id, &Origin::Web)
            .await?
        {
            let is_inside = Url::parse(&source.address).is_ok_and(|url| scope.contains(&url));
            if is_inside
                && self
                    .store
                    .twin_page(import, &source.address, None)
                    .await?
                    .is_none()
            {
                unseen.push(source.address);
            }
        }
        if unseen.is_empty() {
            return Ok(false);
        }
        self.store.add_import_pages(import, unseen, 0).await?;
        Ok(self.store.next_import_page(import).await?.is_some())
    }

    /// What the site's robots.txt says. One that cannot be had forbids everything (RFC 9309, 2.3.1.4).
    async fn robots(&self, site: &Url) -> Result<Robots, String> {
        let mut address = site.clone();
        address.set_path("/robots.txt");
        address.set_query(None);
        let request = Request {
            url: address.clone(),
            validators: Validators::default(),
            max_bytes: MAX_ROBOTS_BYTES,
        };
        match self
            .fetch(request, self.delay(&address, None), |_| Ok(()))
            .await
        {
            Ok(Fetched::Content(content)) => Ok(Robots::parse(
                &String::from_utf8_lossy(&content.bytes),
                PRODUCT,
            )),
            Ok(Fetched::NotModified) => Ok(Robots::default()),
            Err(FetchError::Status { status, .. })
                if (400..500).contains(&status) && status != 429 =>
            {
                Ok(Robots::default())
            }
            Err(error) => Err(format!(
                "{address} cannot be read, so the site does not say what may be fetched: {error}"
            )),
        }
    }

    async fn sitemap(&self, address: &str, delay: Option<Duration>) -> Result<Sitemap, String> {
        let url = parse_url(address).map_err(|error| error.to_string())?;
        let request = Request {
            validators: Validators::default(),
            max_bytes: MAX_SITEMAP_BYTES,
            url: url.clone(),
        };
        match self
            .fetch(request, self.delay(&url, delay), |_| Ok(()))
            .await
        {
            Ok(Fetched::Content(content)) => {
                let read = tokio::task::spawn_blocking(move || read_sitemap(&content.bytes)).await;
                read.unwrap_or_else(|error| Err(error.to_string()))
            }
            Ok(Fetched::NotModified) => Err("the server says that it has not changed".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}
