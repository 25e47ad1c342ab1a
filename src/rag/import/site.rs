//! What belongs to a site, and what a page of it is called. Pure.

use std::borrow::Cow;

use crate::fetch::Url;

/// Types of documents that a site is searched for. What else there is, as pictures, styles and archives, is left.
const DOCUMENT_TYPES: &[&str] = &[
    "text/html",
    "application/xhtml+xml",
    "text/plain",
    "text/markdown",
    "application/pdf",
    "application/epub+zip",
    "application/rtf",
    "text/rtf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.oasis.opendocument.text",
    "application/vnd.oasis.opendocument.presentation",
    "application/vnd.oasis.opendocument.spreadsheet",
];

/// The pages below one address, by http or https.
#[derive(Debug, Clone, PartialEq)]
pub struct Scope {
    host: String,
    /// `None` is the one that the scheme has.
    port: Option<u16>,
    path: String,
}

impl Scope {
    /// What lies below `prefix`.
    pub fn below(prefix: &Url) -> Self {
        Self {
            host: prefix.host_str().unwrap_or_default().to_owned(),
            port: prefix.port(),
            path: prefix.path().to_owned(),
        }
    }

    /// Whether a page belongs to it. `/docs` is the prefix of `/docs` and `/docs/a`, and not of `/docs2`.
    pub fn contains(&self, url: &Url) -> bool {
        let rest = url.path().strip_prefix(&self.path);
        self.is_same_host(url)
            && rest.is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/')
            })
    }

    pub fn is_same_host(&self, url: &Url) -> bool {
        url.host_str() == Some(&self.host) && url.port() == self.port
    }
}

/// The folder that a page lies in: what is imported when no prefix is given.
pub fn folder(url: &Url) -> Url {
    let mut folder = url.clone();
    folder.set_query(None);
    let path = url.path();
    let end = path.rfind('/').map_or(0, |at| at + 1);
    folder.set_path(&path[..end]);
    folder
}

/// Whether something of this type is a document of a site.
pub fn is_document_type(media_type: &str) -> bool {
    DOCUMENT_TYPES.contains(&media_type)
}

pub fn is_html(media_type: &str) -> bool {
    matches!(media_type, "text/html" | "application/xhtml+xml")
}

/// Whether the name of a page says that it is no document, so that it need not be asked for.
pub fn is_surely_no_document(url: &Url) -> bool {
    let name = url.path().rsplit('/').next().unwrap_or_default();
    let Some((_, extension)) = name.rsplit_once('.') else {
        return false;
    };
    let is_archive = matches!(
        extension.to_ascii_lowercase().as_str(),
        "zip"
            | "gz"
            | "bz2"
            | "xz"
            | "tar"
            | "tgz"
            | "7z"
            | "rar"
            | "exe"
            | "msi"
            | "dmg"
            | "iso"
            | "deb"
            | "rpm"
            | "jar"
            | "whl"
            | "css"
            | "js"
            | "mjs"
            | "json"
            | "xml"
            | "rss"
            | "atom"
            | "map"
    );
    let guess = mime_guess::from_ext(extension).first();
    let is_media = guess.is_some_and(|guess| {
        matches!(guess.type_().as_str(), "image" | "audio" | "video" | "font")
    });
    is_archive || is_media
}

/// A file name for a page: the last part of its path, with the ending that its type has.
pub fn file_name(url: &Url, media_type: &str) -> String {
    let parts: Vec<&str> = url
        .path()
        .split('/')
        .filter(|part| !part.is_empty())
        .collect();
    let decoded = |part: &str| percent_decoded(part).replace(['/', '\\', '\0'], "_");
    let name = match parts.as_slice() {
        [] => url.host_str().unwrap_or("page").to_owned(),
        // Every folder has an index.
        [.., parent, last] if last.starts_with("index.") => {
            format!("{}_{}", decoded(parent), decoded(last))
        }
        [.., last] => decoded(last),
    };
    let name: String = name.chars().filter(|c| !c.is_control()).take(150).collect();
    let has_ending = match is_html(media_type) {
        true => [".html", ".htm", ".xhtml"]
            .iter()
            .any(|it| name.ends_with(it)),
        false => name.rsplit_once('.').is_some_and(|(_, ending)| {
            mime_guess::from_ext(ending)
                .iter()
                .any(|it| it.essence_str() == media_type)
        }),
    };
    if has_ending {
        return name;
    }
    let ending = match media_type {
        _ if is_html(media_type) => Some("html"),
        "text/plain" => Some("txt"),
        "text/markdown" => Some("md"),
        _ => mime_guess::get_mime_extensions_str(media_type).and_then(|all| all.first().copied()),
    };
    match ending {
        Some(ending) => format!("{name}.{ending}"),
        None => name,
    }
}

fn percent_decoded(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'%') {
        return text.into();
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_prefix_ends_at_the_bounds_of_names() {
        let scope = Scope::below(&url("https://x.example/docs"));
        for inside in ["https://x.example/docs", "http://x.example/docs/a?b=1"] {
            assert!(scope.contains(&url(inside)), "{inside}");
        }
        for outside in [
            "https://x.example/docs2",
            "https://x.example/",
            "https://y.example/docs/a",
            "https://x.example.evil.example/docs/a",
            "https://x.example:8443/docs/a",
        ] {
            assert!(!scope.contains(&url(outside)), "{outside}");
        }
        assert!(
            Scope::below(&url("https://x.example/docs/"))
                .contains(&url("https://x.example/docs/a"))
        );
    }

    #[test]
    fn without_a_prefix_a_site_is_its_folder() {
        for (start, expected) in [
            ("https://x.example", "https://x.example/"),
            (
                "https://x.example/docs/index.html?v=1",
                "https://x.example/docs/",
            ),
            ("https://x.example/docs/", "https://x.example/docs/"),
        ] {
            assert_eq!(folder(&url(start)).as_str(), expected);
        }
    }

    #[test]
    fn pages_have_names_with_the_ending_of_their_type() {
        for (address, media_type, expected) in [
            ("https://x.example/", "text/html", "x.example.html"),
            (
                "https://x.example/a/caf%C3%A9.html",
                "text/html",
                "café.html",
            ),
            (
                "https://x.example/wiki/Rust_1.90",
                "text/html",
                "Rust_1.90.html",
            ),
            (
                "https://x.example/a/index.html",
                "text/html",
                "a_index.html",
            ),
            ("https://x.example/a/..%2Fb", "text/plain", ".._b.txt"),
            (
                "https://x.example/pdf/1706.03762",
                "application/pdf",
                "1706.03762.pdf",
            ),
            (
                "https://x.example/report.pdf",
                "application/pdf",
                "report.pdf",
            ),
        ] {
            assert_eq!(file_name(&url(address), media_type), expected);
        }
    }

    #[test]
    fn pictures_and_archives_are_known_by_their_names() {
        for name in [
            "a.png",
            "b/c.JPG",
            "x.zip",
            "style.css",
            "movie.mp4",
            "feed.xml",
        ] {
            assert!(
                is_surely_no_document(&url(&format!("https://x.example/{name}"))),
                "{name}"
            );
        }
        for name in [
            "",
            "a",
            "a.html",
            "v1.2",
            "report.pdf",
            "x.php",
            "a.docx",
            "notes.txt",
        ] {
            assert!(
                !is_surely_no_document(&url(&format!("https://x.example/{name}"))),
                "{name}"
            );
        }
    }
}
