//! What an HTML page says to a crawler: its links, its canonical address, and whether it wants to be kept or followed.

use dom_query::Document;
use encoding_rs::{Encoding, WINDOWS_1252};
use url::Url;

use super::Content;
use super::urls::{check, normalized};

/// More links than that are a list that a program made.
const MAX_LINKS: usize = 10_000;

#[derive(Debug, Default, PartialEq)]
pub struct PageView {
    pub title: Option<String>,
    /// In the order in which they stand, each once; without those that ask not to be followed.
    pub links: Vec<Url>,
    pub canonical: Option<Url>,
    pub is_noindex: bool,
}

/// Reads a page that was fetched.
pub fn read_page(content: &Content) -> PageView {
    let document = Document::from(decoded(content).as_ref());
    let attribute = |css: &str, name: &str| {
        let found = document.select(css);
        let value = found.iter().next().and_then(|it| it.attr(name));
        value.map(|value| value.trim().to_owned())
    };
    let base = attribute("base[href]", "href")
        .and_then(|href| content.url.join(&href).ok())
        .unwrap_or_else(|| content.url.clone());
    let resolve = |href: &str| {
        let url = base.join(href.trim()).ok()?;
        check(&url).ok()?;
        Some(normalized(&url))
    };
    let mut wishes: Vec<String> = content
        .robots_tag
        .iter()
        .flat_map(|it| header_wishes(it))
        .collect();
    for meta in document.select("meta[name][content]").iter() {
        let name = meta.attr("name").unwrap_or_default().to_ascii_lowercase();
        if matches!(name.as_str(), "robots" | "inglenook") {
            wishes.extend(words(&meta.attr("content").unwrap_or_default()));
        }
    }
    let wishes_for = |word: &str| wishes.iter().any(|it| it == word || it == "none");
    let mut links: Vec<Url> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    if !wishes_for("nofollow") {
        for link in document.select("a[href], area[href]").iter() {
            let rel = link.attr("rel").unwrap_or_default();
            let href = link.attr("href").unwrap_or_default();
            if words(&rel).iter().any(|it| it == "nofollow") || href.trim_start().starts_with('#') {
                continue;
            }
            if let Some(url) = resolve(&href)
                && links.len() < MAX_LINKS
                && seen.insert(url.clone())
            {
                links.push(url);
            }
        }
        // A page that sends its reader on.
        for meta in document.select("meta[http-equiv][content]").iter() {
            let is_refresh = meta.attr("http-equiv").unwrap_or_default();
            let content = meta.attr("content").unwrap_or_default();
            let target = content.split_once(';').map(|(_, target)| target.trim());
            let target = target.and_then(|it| it.split_once('=')).map(|(_, url)| url);
            if is_refresh.trim().eq_ignore_ascii_case("refresh")
                && let Some(url) = target.and_then(|it| resolve(it.trim_matches(['"', '\'', ' '])))
                && seen.insert(url.clone())
            {
                links.push(url);
            }
        }
    }
    let title = document.select("title").iter().next().map(|it| it.text());
    let title = title.map(|it| it.split_whitespace().collect::<Vec<_>>().join(" "));
    let canonical = document.select("link[rel][href]");
    let canonical = canonical.iter().find(|link| {
        let rel = link.attr("rel").unwrap_or_default();
        words(&rel).iter().any(|it| it == "canonical")
    });
    PageView {
        title: title.filter(|title| !title.is_empty()),
        links,
        canonical: canonical.and_then(|link| resolve(&link.attr("href")?)),
        is_noindex: wishes_for("noindex"),
    }
}

/// Words in lower case, between blanks and commas.
fn words(text: &str) -> Vec<String> {
    let words = text
        .split([',', ' ', '\t', '\n'])
        .filter(|it| !it.is_empty());
    words.map(str::to_ascii_lowercase).collect()
}

/// `X-Robots-Tag`, which may be meant for another: `otherbot: noindex`.
fn header_wishes(value: &str) -> Vec<String> {
    match value.split_once(':') {
        Some((name, wishes)) if name.trim().eq_ignore_ascii_case("inglenook") => words(wishes),
        // `unavailable_after: DATE` is no name, but asks for nothing that is done here.
        Some(_) => Vec::new(),
        None => words(value),
    }
}

/// As text, good enough to find links in it: what is kept is the original.
fn decoded(content: &Content) -> std::borrow::Cow<'_, str> {
    let head = String::from_utf8_lossy(&content.bytes[..content.bytes.len().min(1024)]);
    let declared = head.split_once("charset=").map(|(_, rest)| {
        let rest = rest.trim_start_matches(['"', '\'']);
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c)));
        rest[..end.unwrap_or(rest.len())].to_owned()
    });
    let label = content.charset.clone().or(declared);
    let named = label.and_then(|label| Encoding::for_label(label.as_bytes()));
    if let (None, Ok(text)) = (named, std::str::from_utf8(&content.bytes)) {
        return text.into();
    }
    named.unwrap_or(WINDOWS_1252).decode(&content.bytes).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::Validators;

    fn content(html: &[u8], robots_tag: Option<&str>) -> Content {
        Content {
            url: Url::parse("https://x.example/docs/a.html").unwrap(),
            media_type: "text/html".into(),
            charset: None,
            validators: Validators::default(),
            robots_tag: robots_tag.map(str::to_owned),
            bytes: html.to_vec(),
        }
    }

    fn links(html: &str) -> Vec<String> {
        let page = read_page(&content(html.as_bytes(), None));
        page.links.into_iter().map(String::from).collect()
    }

    #[test]
    fn links_are_resolved_and_each_is_there_once() {
        let found = links(
            "<base href='/docs/v2/'><a href='b.html#x'>b</a><a href='b.html?utm_source=q'>b</a>\
             <a href='mailto:x@y'>m</a><a href='javascript:void(0)'>j</a><a href='#top'>t</a>\
             <area href='//other.example/c'><a rel='nofollow ugc' href='d.html'>d</a><a href=' ../e '>e</a>\
             <meta http-equiv='refresh' content=\"0; URL='f.html'\">",
        );
        assert_eq!(
            found,
            [
                "https://x.example/docs/v2/b.html",
                "https://other.example/c",
                "https://x.example/docs/e",
                "https://x.example/docs/v2/f.html",
            ]
        );
    }

    #[test]
    fn a_page_may_refuse_to_be_kept_or_followed() {
        let page = |html: &str, tag| read_page(&content(html.as_bytes(), tag));
        let html =
            "<title> A\n page </title><link rel='canonical' href='/docs/b#x'><a href='c'>c</a>";
        let plain = page(html, None);
        assert_eq!(plain.title.as_deref(), Some("A page"));
        assert_eq!(
            plain.canonical.unwrap().as_str(),
            "https://x.example/docs/b"
        );
        assert!(!plain.is_noindex && plain.links.len() == 1);
        let none = page(&format!("<meta name=ROBOTS content='NONE'>{html}"), None);
        assert!(none.is_noindex && none.links.is_empty());
        let tagged = page(html, Some("noindex, nofollow"));
        assert!(tagged.is_noindex && tagged.links.is_empty());
        assert!(!page(html, Some("otherbot: noindex")).is_noindex);
        assert!(page(html, Some("inglenook: noindex")).is_noindex);
    }

    #[test]
    fn links_in_other_encodings_are_found() {
        let page = read_page(&content(
            b"<title>caf\xe9</title><a href='caf\xe9'>x</a>",
            None,
        ));
        assert_eq!(page.title.as_deref(), Some("café"));
        assert_eq!(page.links[0].as_str(), "https://x.example/docs/caf%C3%A9");
    }
}
