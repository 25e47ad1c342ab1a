//! Requests to a model hub: where a file is, what it weighs and its checksum. The access token goes to the hub's own host
//! and to no other, whatever a redirect says.

use std::time::Duration;

use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use super::HubError;

const MAX_REDIRECTS: usize = 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest silence that is waited out before a connection counts as dropped.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// A hub and the right to read from it.
pub(super) struct Hub {
    agent: Agent,
    /// Scheme, host and path prefix, without a slash at the end.
    endpoint: String,
    token: Option<String>,
}

/// What the hub says about a file.
#[derive(Debug, PartialEq)]
pub(super) struct RemoteFile {
    pub commit: String,
    pub checksum: Checksum,
    pub size: Option<u64>,
}

/// The name of a file's contents, which is also its name in the cache.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Checksum {
    /// Large files.
    Sha256(String),
    /// Small ones: the hash git gives the file.
    GitBlob(String),
    /// A hub that is none of Hugging Face's: it identifies the contents but cannot prove them.
    Opaque(String),
}

impl Checksum {
    fn parse(etag: &str) -> Option<Checksum> {
        let tag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
        let is_file_name = (1..=128).contains(&tag.len())
            && tag
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !tag.starts_with('.');
        if !is_file_name {
            return None;
        }
        let is_hex = tag.bytes().all(|b| b.is_ascii_hexdigit());
        Some(match tag.len() {
            64 if is_hex => Checksum::Sha256(tag.to_ascii_lowercase()),
            40 if is_hex => Checksum::GitBlob(tag.to_ascii_lowercase()),
            _ => Checksum::Opaque(tag.into()),
        })
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Checksum::Sha256(tag) | Checksum::GitBlob(tag) | Checksum::Opaque(tag) => tag,
        }
    }
}

/// Why a request failed, as the one who may try again needs it.
pub(super) enum RequestError {
    /// Trying again may help.
    Passing(String),
    Final(HubError),
}

impl Hub {
    pub(super) fn new(endpoint: &str, token: Option<String>) -> Hub {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed here, where the token can be held back.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("inglenook/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(SILENCE_TIMEOUT))
            .timeout_per_read(Some(SILENCE_TIMEOUT))
            .build()
            .new_agent();
        Hub {
            agent,
            endpoint: endpoint.trim_end_matches('/').into(),
            token,
        }
    }

    pub(super) fn url(&self, repo: &str, revision: &str, file: &str) -> String {
        format!("{}/{repo}/resolve/{revision}/{file}", self.endpoint)
    }

    /// Asks for a file's description without its contents.
    pub(super) fn describe(&self, repo: &str, url: &str) -> Result<RemoteFile, RequestError> {
        let mut url = url.to_string();
        let mut known = Described::default();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(|agent| agent.head(&url), &url)?;
            known.read(&response);
            match self.redirect(&url, &response)? {
                // What lies elsewhere is only storage: the hub has already said what the file is.
                Some(target) if self.is_own(&target) => url = target,
                Some(_) => return known.finish(&url, false),
                None => {
                    self.check_status(repo, &url, response.status())?;
                    return known.finish(&url, true);
                }
            }
        }
        Err(bad_response(&url, "too many redirects"))
    }

    /// Asks for the contents from byte `offset` on. The answer's status is 200, 206 or 416.
    pub(super) fn get(
        &self,
        repo: &str,
        url: &str,
        offset: u64,
    ) -> Result<Response<Body>, RequestError> {
        let mut url = url.to_string();
        for _ in 0..=MAX_REDIRECTS {
            let request = |agent: &Agent| {
                let request = agent.get(&url);
                match offset {
                    0 => request,
                    _ => request.header(header::RANGE, format!("bytes={offset}-")),
                }
            };
            let response = self.send(request, &url)?;
            match self.redirect(&url, &response)? {
                Some(target) => url = target,
                None if response.status() == StatusCode::RANGE_NOT_SATISFIABLE && offset > 0 => {
                    return Ok(response);
                }
                None => {
                    self.check_status(repo, &url, response.status())?;
                    return Ok(response);
                }
            }
        }
        Err(bad_response(&url, "too many redirects"))
    }

    fn send(
        &self,
        request: impl FnOnce(&Agent) -> ureq::RequestBuilder<ureq::typestate::WithoutBody>,
        url: &str,
    ) -> Result<Response<Body>, RequestError> {
        let mut request = request(&self.agent);
        if let Some(token) = &self.token
            && self.is_own(url)
        {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.call().map_err(|error| match error {
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => bad_response(url, &error.to_string()),
            passing => RequestError::Passing(passing.to_string()),
        })
    }

    /// Where a redirect leads.
    fn redirect(
        &self,
        url: &str,
        response: &Response<Body>,
    ) -> Result<Option<String>, RequestError> {
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let target = text(response, "location")
            .and_then(|location| join(url, location))
            .ok_or_else(|| bad_response(url, "it redirects to nowhere"))?;
        if url.starts_with("https://") && !target.starts_with("https://") {
            return Err(bad_response(url, "it redirects to an unencrypted address"));
        }
        Ok(Some(target))
    }

    fn is_own(&self, url: &str) -> bool {
        origin(url) == origin(&self.endpoint)
    }

    fn check_status(&self, repo: &str, url: &str, status: StatusCode) -> Result<(), RequestError> {
        let url = url.to_string();
        match status.as_u16() {
            200 | 206 => Ok(()),
            404 => Err(RequestError::Final(HubError::NotFound { url })),
            status @ (401 | 403) => Err(RequestError::Final(HubError::AccessDenied {
                url,
                status,
                page: format!("{}/{repo}", self.endpoint),
            })),
            status @ (408 | 429 | 500..=599) => {
                Err(RequestError::Passing(format!("status {status}")))
            }
            status => Err(RequestError::Final(HubError::Status { url, status })),
        }
    }
}

/// The headers that describe a file, gathered along the hub's own redirects.
#[derive(Default)]
struct Described {
    commit: Option<String>,
    linked_etag: Option<String>,
    etag: Option<String>,
    linked_size: Option<u64>,
    content_length: Option<u64>,
}

impl Described {
    fn read(&mut self, response: &Response<Body>) {
        let get = |name| text(response, name).map(str::to_owned);
        let number = |name| text(response, name).and_then(|value| value.parse().ok());
        self.commit = self.commit.take().or_else(|| get("x-repo-commit"));
        self.linked_etag = self.linked_etag.take().or_else(|| get("x-linked-etag"));
        self.linked_size = self.linked_size.or_else(|| number("x-linked-size"));
        // These two describe the answer itself: only the last one's count.
        self.etag = get("etag");
        self.content_length = number("content-length");
    }

    fn finish(self, url: &str, is_the_file: bool) -> Result<RemoteFile, RequestError> {
        let commit = self
            .commit
            .filter(|commit| {
                (1..=64).contains(&commit.len())
                    && commit.bytes().all(|b| b.is_ascii_alphanumeric())
            })
            .ok_or_else(|| {
                bad_response(url, "the header x-repo-commit is missing or not a commit")
            })?;
        let etag = self.linked_etag.or(self.etag);
        let checksum = etag
            .as_deref()
            .and_then(Checksum::parse)
            .ok_or_else(|| bad_response(url, "the file's etag is missing or not a plain name"))?;
        let size = self
            .linked_size
            .or(self.content_length.filter(|_| is_the_file));
        Ok(RemoteFile {
            commit,
            checksum,
            size,
        })
    }
}

pub(super) fn text<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

fn bad_response(url: &str, reason: &str) -> RequestError {
    RequestError::Final(HubError::BadResponse {
        url: url.into(),
        reason: reason.into(),
    })
}

/// Scheme, host and port.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    Some(format!("{scheme}://{authority}").to_ascii_lowercase())
}

/// The address that `location` means when it is found at `url`.
fn join(url: &str, location: &str) -> Option<String> {
    let lower = location.to_ascii_lowercase();
    if lower.starts_with("https://") || lower.starts_with("http://") {
        return Some(location.into());
    }
    let (scheme, _) = url.split_once("://")?;
    if location.starts_with("//") {
        return Some(format!("{scheme}:{location}"));
    }
    if location.starts_with('/') {
        return Some(format!("{}{location}", origin(url)?));
    }
    let path = url.split(['?', '#']).next()?;
    let (folder, _) = path.rsplit_once('/')?;
    (!location.is_empty()).then(|| format!("{folder}/{location}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_joined_as_browsers_do() {
        let at = "https://hub.example:8443/o/r/resolve/main/file?download=true";
        for (location, expected) in [
            ("https://cdn.example/x?sig=1", "https://cdn.example/x?sig=1"),
            ("//cdn.example/x", "https://cdn.example/x"),
            ("/api/cache/x", "https://hub.example:8443/api/cache/x"),
            ("other", "https://hub.example:8443/o/r/resolve/main/other"),
        ] {
            assert_eq!(join(at, location).unwrap(), expected);
        }
        assert_eq!(join(at, ""), None);
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let own = origin("https://hub.example/prefix");
        assert_eq!(own, origin("https://HUB.example/o/r"));
        for other in [
            "http://hub.example/",
            "https://hub.example:444/",
            "https://hub.example.evil.example/",
            "https://hub.example@evil.example/",
        ] {
            assert_ne!(own, origin(other), "{other}");
        }
    }

    #[test]
    fn an_etag_becomes_a_checksum_or_a_safe_name() {
        let sha256 = "A".repeat(64);
        let git = "b".repeat(40);
        assert_eq!(
            Checksum::parse(&format!("\"{sha256}\"")),
            Some(Checksum::Sha256("a".repeat(64)))
        );
        assert_eq!(
            Checksum::parse(&format!("W/\"{git}\"")),
            Some(Checksum::GitBlob(git))
        );
        assert_eq!(
            Checksum::parse("\"5d-12\""),
            Some(Checksum::Opaque("5d-12".into()))
        );
        for bad in [
            "",
            "\"\"",
            "\"../../evil\"",
            "\"a/b\"",
            "\"..\"",
            &"x".repeat(200),
        ] {
            assert_eq!(Checksum::parse(bad), None, "{bad}");
        }
    }
}
