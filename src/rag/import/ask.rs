//! Asks a server for a page: when it is its turn, again where that may help, and only for what has changed.

use std::sync::Arc;
use std::time::Duration;

use super::outcome::{DISALLOWED, OFF_PREFIX, failed, result_of};
use super::plan::Plan;
use super::visit::{Visitor, path_and_query};
use crate::fetch::{Content, FetchError, Fetched, Request, Url};
use crate::store::{DocumentStatus, PageDocument, PageOutcome, PageResult, Source};

/// Requests for one page before it has failed.
const MAX_ATTEMPTS: u32 = 3;
/// A server that wants a longer pause than this is not waited for.
const MAX_PAUSE: Duration = Duration::from_secs(300);
const MAX_CRAWL_DELAY: Duration = Duration::from_secs(60);
/// Between requests to a host that the owner did not name.
const MIN_DELAY: Duration = Duration::from_secs(1);

/// A page that was asked for.
pub(super) enum Answer {
    Content(Content),
    NotModified,
    /// There is no answer, for this reason.
    None(PageResult),
}

impl Visitor {
    /// Asks for a page; one that is known is sent only if it has changed.
    pub(super) async fn ask(&self, plan: &Plan, url: &Url, source: Option<&Source>) -> Answer {
        let is_kept = |it: &&Source| {
            it.file_id.is_some()
                && it
                    .status
                    .is_some_and(|status| status != DocumentStatus::Failed)
        };
        let validators = source
            .filter(is_kept)
            .and_then(|source| serde_json::from_str(&source.version).ok());
        let request = Request {
            url: url.clone(),
            validators: validators.unwrap_or_default(),
            max_bytes: self.options.max_bytes,
        };
        let (scope, robots) = (plan.scope.clone(), Arc::clone(&plan.robots));
        let may_follow = move |target: &Url| match &scope {
            Some(scope) if !scope.contains(target) => Err(OFF_PREFIX.to_owned()),
            Some(_) if !robots.allows(path_and_query(target)) => Err(DISALLOWED.to_owned()),
            _ => Ok(()),
        };
        let delay = self.delay(url, plan.robots.crawl_delay);
        let error = match self.fetch(request, delay, may_follow).await {
            Ok(Fetched::Content(content)) => return Answer::Content(*content),
            Ok(Fetched::NotModified) => return Answer::NotModified,
            Err(error) => error,
        };
        let is_gone = matches!(
            error,
            FetchError::Status {
                status: 404 | 410,
                ..
            }
        );
        if is_gone && source.is_some_and(|source| source.file_id.is_some()) {
            let address = url.to_string();
            let (outcome, document) = match plan.request.remove_missing {
                true => (PageOutcome::Removed, PageDocument::Remove { address }),
                false => (PageOutcome::Gone, PageDocument::None),
            };
            return Answer::None(PageResult {
                outcome,
                document,
                is_fetched: true,
                ..failed("status", &error.to_string())
            });
        }
        Answer::None(result_of(error))
    }

    pub(super) fn delay(&self, url: &Url, crawl_delay: Option<Duration>) -> Duration {
        let least = match self.options.fetcher.is_allowed_host(url) {
            true => Duration::ZERO,
            false => MIN_DELAY,
        };
        let wanted = crawl_delay.unwrap_or_default().min(MAX_CRAWL_DELAY);
        self.options.delay.max(least).max(wanted)
    }

    /// Fetches when it is this host's turn, again if the failure may pass. The host has its pause meanwhile.
    pub(super) async fn fetch(
        &self,
        request: Request,
        delay: Duration,
        may_follow: impl Fn(&Url) -> Result<(), String> + Send + Clone + 'static,
    ) -> Result<Fetched, FetchError> {
        let host = request.url.host_str().unwrap_or_default().to_owned();
        let _turn = self.gate.turn(&host, delay).await;
        let mut attempt = 1;
        loop {
            let may_follow = Box::new(may_follow.clone());
            let error = match self
                .options
                .fetcher
                .fetch(request.clone(), may_follow)
                .await
            {
                Ok(fetched) => return Ok(fetched),
                Err(error) => error,
            };
            let wanted = match &error {
                FetchError::Status { retry_after, .. } => *retry_after,
                _ => None,
            };
            let pause = wanted.unwrap_or(delay * 2u32.pow(attempt)).max(delay);
            if !error.is_passing() || attempt == MAX_ATTEMPTS || pause > MAX_PAUSE {
                return Err(error);
            }
            attempt += 1;
            tokio::time::sleep(pause).await;
        }
    }
}
