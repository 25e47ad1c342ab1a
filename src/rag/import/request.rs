//! What an import is asked to bring, checked.

use serde::{Deserialize, Serialize};

use super::arxiv::{ArxivId, BadArxivId};
use super::site::{self, Scope};
use crate::fetch::{FetchError, Url, parse_url};
use crate::store::Attributes;

pub const DEFAULT_MAX_PAGES: u32 = 500;
pub const MAX_PAGES: u32 = 50_000;
pub const DEFAULT_MAX_DEPTH: u32 = 16;
const MAX_DEPTH: u32 = 100;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportRequest {
    pub target: Target,
    /// Of every document that it brings, besides those that tell where it comes from.
    pub attributes: Attributes,
    /// Whether documents whose pages are gone are removed.
    pub remove_missing: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    Url {
        #[serde(with = "as_text")]
        url: Url,
    },
    Site {
        #[serde(with = "as_text")]
        start: Url,
        #[serde(with = "as_text")]
        prefix: Url,
        #[serde(with = "as_text::optional")]
        sitemap: Option<Url>,
        max_pages: u32,
        max_depth: u32,
    },
    Arxiv {
        id: String,
    },
}

/// Why an import cannot be.
#[derive(Debug, thiserror::Error)]
pub enum BadRequest {
    #[error(transparent)]
    Address(#[from] FetchError),
    #[error(transparent)]
    Arxiv(#[from] BadArxivId),
    #[error("the prefix {prefix} does not hold the page {start} that the import begins with")]
    Prefix { prefix: Box<Url>, start: Box<Url> },
    #[error("{name} is {value}, but must be between {min} and {max}")]
    OutOfRange {
        name: &'static str,
        value: u32,
        min: u32,
        max: u32,
    },
}

impl Target {
    pub fn url(url: &str) -> Result<Self, BadRequest> {
        let url = parse_url(url)?;
        Ok(Self::Url { url })
    }

    /// Without a prefix, the folder of the first page.
    pub fn site(
        start: &str,
        prefix: Option<&str>,
        sitemap: Option<&str>,
        max_pages: Option<u32>,
        max_depth: Option<u32>,
    ) -> Result<Self, BadRequest> {
        let start = parse_url(start)?;
        let prefix = match prefix {
            Some(prefix) => parse_url(prefix)?,
            None => site::folder(&start),
        };
        if !Scope::below(&prefix).contains(&start) {
            let (prefix, start) = (Box::new(prefix), Box::new(start));
            return Err(BadRequest::Prefix { prefix, start });
        }
        let within = |name, value, min, max| match (min..=max).contains(&value) {
            true => Ok(value),
            false => Err(BadRequest::OutOfRange {
                name,
                value,
                min,
                max,
            }),
        };
        Ok(Self::Site {
            start,
            prefix,
            sitemap: sitemap.map(parse_url).transpose()?,
            max_pages: within(
                "max_pages",
                max_pages.unwrap_or(DEFAULT_MAX_PAGES),
                1,
                MAX_PAGES,
            )?,
            max_depth: within(
                "max_depth",
                max_depth.unwrap_or(DEFAULT_MAX_DEPTH),
                0,
                MAX_DEPTH,
            )?,
        })
    }

    pub fn arxiv(id: &str) -> Result<Self, BadRequest> {
        let id = ArxivId::parse(id)?.as_str().to_owned();
        Ok(Self::Arxiv { id })
    }

    /// What it was asked by, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Url { url } => url.to_string(),
            Self::Site { start, .. } => start.to_string(),
            Self::Arxiv { id } => format!("arXiv:{id}"),
        }
    }

    pub(super) fn first_page(&self, arxiv_endpoint: &Url) -> Result<Url, FetchError> {
        match self {
            Self::Url { url } => Ok(url.clone()),
            Self::Site { start, .. } => Ok(start.clone()),
            Self::Arxiv { id } => {
                let endpoint = arxiv_endpoint.as_str().trim_end_matches('/');
                parse_url(&format!("{endpoint}/pdf/{id}"))
            }
        }
    }
}

impl ImportRequest {
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a request is plain data")
    }

    /// What is stored, or `None` when another version stored it in another shape.
    pub fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// An address is stored as it is written.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use crate::fetch::Url;

    pub fn serialize<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(url.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
        let text = String::deserialize(deserializer)?;
        Url::parse(&text).map_err(de::Error::custom)
    }

    pub mod optional {
        use super::*;

        pub fn serialize<S: Serializer>(
            url: &Option<Url>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match url {
                Some(url) => serializer.serialize_some(url.as_str()),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Url>, D::Error> {
            let text = Option::<String>::deserialize(deserializer)?;
            let url = text.map(|text| Url::parse(&text).map_err(de::Error::custom));
            url.transpose()
        }
    }
}
