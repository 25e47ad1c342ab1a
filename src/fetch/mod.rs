//! Reads the web for imports: one document at a time, from public addresses and those that the owner allows. Every
//! address is checked when it is connected to, at each redirect anew. Knows no store, and decides nothing about sites.

pub mod address;
mod client;
mod page;
mod resolver;
mod robots;
mod sitemap;
mod urls;
mod xml;

pub use address::{BadHostPattern, HostPattern};
pub use client::{Content, FetchError, FetchOptions, Fetched, Fetcher, Request, Validators};
pub use page::{PageView, read_page};
pub use robots::Robots;
pub use sitemap::{Sitemap, read_sitemap};
pub use url::Url;
pub use urls::{normalized, parse_url};
pub use xml::{Element, for_each_element};
