//! One document from the web, within limits of size and time. Redirects are followed here, one by one, so that each
//! target is checked as the first address was.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use ureq::http::{Response, StatusCode};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body};
use url::Url;

use super::HostPattern;
use super::address::{is_public, is_web_port, pattern_of};
use super::resolver::{GuardedResolver, PrivateAddress};
use super::urls;

const MAX_REDIRECTS: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const BUFFER_BYTES: usize = 64 << 10;
/// What servers see, and what robots.txt may name.
const USER_AGENT: &str = concat!("inglenook/", env!("CARGO_PKG_VERSION"));

#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Hosts that may be fetched from although their address is private, or at an unusual port.
    pub allowed_hosts: Vec<HostPattern>,
    /// From the first connection to the last byte.
    pub timeout: Duration,
}

/// What an earlier answer was known by; sent along, it saves the server the same answer again.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Validators {
    pub etag: Option<String>,
    pub last_modified: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub url: Url,
    pub validators: Validators,
    /// Of the document, decompressed.
    pub max_bytes: u64,
}

#[derive(Debug)]
pub enum Fetched {
    Content(Box<Content>),
    /// It is what the validators say.
    NotModified,
}

#[derive(Debug)]
pub struct Content {
    /// Where it was found in the end.
    pub url: Url,
    /// In lower case, without parameters; empty where the server names none.
    pub media_type: String,
    pub charset: Option<String>,
    pub validators: Validators,
    /// `X-Robots-Tag`.
    pub robots_tag: Option<String>,
    pub bytes: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{url:?} cannot be fetched: {why}")]
    BadUrl { url: String, why: String },
    #[error(
        "{host} has the private address {address}; if it is to be read, add {} to the setting web_import_hosts",
        pattern_of(.host, *.port)
    )]
    PrivateAddress {
        host: String,
        address: String,
        port: u16,
    },
    #[error(
        "port {port} of {host} is none of the web's (80, 443); if it is to be read, add {} to the setting \
         web_import_hosts",
        pattern_of(.host, *.port)
    )]
    Port { host: String, port: u16 },
    #[error("more than {MAX_REDIRECTS} redirects, the last one to {url}")]
    TooManyRedirects { url: Url },
    #[error("it redirects to {url}, {why}")]
    RedirectRefused { url: Url, why: String },
    #[error("the server answered with status {status}")]
    Status {
        status: u16,
        /// When the server wants to be asked again.
        retry_after: Option<Duration>,
    },
    #[error("it is larger than {max_bytes} bytes")]
    TooLarge { max_bytes: u64 },
    #[error("it took longer than {seconds} seconds")]
    TimedOut { seconds: u64 },
    #[error("the connection failed: {reason}")]
    Connection { reason: String },
    #[error("nobody waits for it any more")]
    Abandoned,
}

impl FetchError {
    /// Whether the same request may succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502..=504),
            Self::TimedOut { .. } | Self::Connection { .. } => true,
            Self::BadUrl { .. }
            | Self::PrivateAddress { .. }
            | Self::Port { .. }
            | Self::TooManyRedirects { .. }
            | Self::RedirectRefused { .. }
            | Self::TooLarge { .. }
            | Self::Abandoned => false,
        }
    }
}

/// Fetches documents. Clones share their connections.
#[derive(Clone)]
pub struct Fetcher {
    agent: Agent,
    allowed: Arc<Vec<HostPattern>>,
    timeout: Duration,
}

/// Whether a redirect to this address may be followed, or why not.
pub type MayFollow = Box<dyn Fn(&Url) -> Result<(), String> + Send>;

impl Fetcher {
    pub fn new(options: FetchOptions) -> Self {
        let allowed = Arc::new(options.allowed_hosts);
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A proxy would look names up where they cannot be checked.
            .proxy(None)
            .user_agent(USER_AGENT)
            .timeout_connect(Some(CONNECT_TIMEOUT.min(options.timeout)))
            .build();
        let resolver = GuardedResolver {
            names: DefaultResolver::default(),
            allowed: Arc::clone(&allowed),
        };
        Self {
            agent: Agent::with_parts(config, DefaultConnector::default(), resolver),
            allowed,
            timeout: options.timeout,
        }
    }

    /// Whether the owner named this host, and knows what may be asked of it.
    pub fn is_allowed_host(&self, url: &Url) -> bool {
        let (host, port) = (host(url), url.port_or_known_default().unwrap_or_default());
        self.allowed.iter().any(|it| it.matches(host, port))
    }

    /// What an address shows of being out of reach, before any name is looked up.
    pub fn check(&self, url: &Url) -> Result<(), FetchError> {
        urls::check(url)?;
        if self.is_allowed_host(url) {
            return Ok(());
        }
        let host = host(url).to_owned();
        let port = url.port_or_known_default().unwrap_or_default();
        match host.parse() {
            Ok(address) if !is_public(address) => {
                let address = address.to_string();
                Err(FetchError::PrivateAddress {
                    host,
                    address,
                    port,
                })
            }
            _ if !is_web_port(port) => Err(FetchError::Port { host, port }),
            _ => Ok(()),
        }
    }

    /// The document at the address, wherever redirects lead that `may_follow` allows. When this is dropped, the
    /// download ends with the next bytes.
    pub async fn fetch(
        &self,
        request: Request,
        may_follow: MayFollow,
    ) -> Result<Fetched, FetchError> {
        let (sender, answer) = oneshot::channel();
        let fetcher = self.clone();
        // A thread of its own: one that waits for a slow server must not hold up the end of the program, as one of the
        // runtime's would. It ends by itself within the time limit.
        let started = std::thread::Builder::new()
            .name("fetch".into())
            .spawn(move || {
                let is_wanted = || !sender.is_closed();
                let fetched = fetcher.fetch_blocking(&request, &may_follow, &is_wanted);
                let _ = sender.send(fetched);
            });
        started.map_err(|error| FetchError::Connection {
            reason: error.to_string(),
        })?;
        answer.await.unwrap_or(Err(FetchError::Connection {
            reason: "the thread that fetches it has ended".into(),
        }))
    }

    fn fetch_blocking(
        &self,
        request: &Request,
        may_follow: &MayFollow,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Fetched, FetchError> {
        let deadline = Instant::now() + self.timeout;
        let mut url = request.url.clone();
        for num_redirects in 0..=MAX_REDIRECTS {
            self.check(&url)?;
            // What a later address was known by is not known.
            let validators = match num_redirects {
                0 => request.validators.clone(),
                _ => Validators::default(),
            };
            let response = self.send(&url, &validators, deadline)?;
            let status = response.status();
            if status == StatusCode::NOT_MODIFIED {
                return Ok(Fetched::NotModified);
            }
            if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
                && let Some(location) = header(&response, "location")
            {
                let target = url.join(&location).map_err(|error| FetchError::BadUrl {
                    url: location,
                    why: error.to_string(),
                })?;
                url = urls::normalized(&target);
                if let Err(why) = may_follow(&url) {
                    return Err(FetchError::RedirectRefused { url, why });
                }
                continue;
            }
            if status != StatusCode::OK {
                return Err(FetchError::Status {
                    status: status.as_u16(),
                    retry_after: header(&response, "retry-after").and_then(|it| pause(&it)),
                });
            }
            let content = self.read(url, response, request.max_bytes, deadline, is_wanted);
            return Ok(Fetched::Content(Box::new(content?)));
        }
        Err(FetchError::TooManyRedirects { url })
    }

    fn send(
        &self,
        url: &Url,
        validators: &Validators,
        deadline: Instant,
    ) -> Result<Response<Body>, FetchError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut request = self.agent.get(url.as_str());
        request = request.header("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        if let Some(etag) = &validators.etag {
            request = request.header("if-none-match", etag);
        }
        if let Some(date) = &validators.last_modified {
            request = request.header("if-modified-since", date);
        }
        // The name has been looked up by the time that a connection is made: this holds for all of it.
        let request = request
            .config()
            .timeout_global(Some(left.max(Duration::from_millis(1))))
            .build();
        request.call().map_err(|error| self.failed(error))
    }

    fn read(
        &self,
        url: Url,
        response: Response<Body>,
        max_bytes: u64,
        deadline: Instant,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<Content, FetchError> {
        let content_type = header(&response, "content-type").unwrap_or_default();
        let (media_type, charset) = split_content_type(&content_type);
        let content = Content {
            url,
            media_type,
            charset,
            validators: Validators {
                etag: header(&response, "etag"),
                last_modified: header(&response, "last-modified"),
            },
            robots_tag: header(&response, "x-robots-tag"),
            bytes: Vec::new(),
        };
        let announced = header(&response, "content-length").and_then(|it| it.parse::<u64>().ok());
        if announced.is_some_and(|announced| announced > max_bytes) {
            return Err(FetchError::TooLarge { max_bytes });
        }
        let mut bytes = Vec::new();
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let read = match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.failed(ureq::Error::from(error))),
            };
            bytes.extend_from_slice(&buffer[..read]);
            // Counted as it is unpacked, so that little bytes cannot become many.
            if bytes.len() as u64 > max_bytes {
                return Err(FetchError::TooLarge { max_bytes });
            }
            if !is_wanted() {
                return Err(FetchError::Abandoned);
            }
            if Instant::now() > deadline {
                return Err(self.timed_out());
            }
        }
        Ok(Content { bytes, ..content })
    }

    fn timed_out(&self) -> FetchError {
        FetchError::TimedOut {
            seconds: self.timeout.as_secs(),
        }
    }

    fn failed(&self, error: ureq::Error) -> FetchError {
        match error {
            ureq::Error::Timeout(_) => self.timed_out(),
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                self.timed_out()
            }
            ureq::Error::Other(error) => match error.downcast_ref::<PrivateAddress>() {
                Some(PrivateAddress {
                    host,
                    address,
                    port,
                }) => FetchError::PrivateAddress {
                    host: host.clone(),
                    address: address.to_string(),
                    port: *port,
                },
                None => FetchError::Connection {
                    reason: error.to_string(),
                },
            },
            error => FetchError::Connection {
                reason: error.to_string(),
            },
        }
    }
}

/// Without the brackets of IPv6.
fn host(url: &Url) -> &str {
    let host = url.host_str().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

fn header(response: &Response<Body>, name: &str) -> Option<String> {
    let value = response.headers().get(name)?.as_bytes();
    Some(String::from_utf8_lossy(value).trim().to_owned()).filter(|value| !value.is_empty())
}

/// Seconds, or a date.
fn pause(retry_after: &str) -> Option<Duration> {
    if let Ok(seconds) = retry_after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(retry_after).ok()?;
    Some(
        date.duration_since(std::time::SystemTime::now())
            .unwrap_or_default(),
    )
}

/// `text/html; charset=utf-8` in its parts.
fn split_content_type(value: &str) -> (String, Option<String>) {
    let mut parts = value.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        is_charset.then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    });
    (media_type, charset.filter(|charset| !charset.is_empty()))
}
