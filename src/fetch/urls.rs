//! Addresses of documents, so written that each has one: without fragments, default ports and what only counts visits.

use url::Url;

use super::FetchError;

/// Longer ones are made by programs for programs.
const MAX_BYTES: usize = 2048;
/// Parameters that tell a server where a reader came from, and change nothing that is shown.
const TRACKING: &[&str] = &["gclid", "fbclid", "msclkid", "mc_cid", "mc_eid"];

/// The address of a document as somebody wrote it.
pub fn parse_url(text: &str) -> Result<Url, FetchError> {
    let bad = |why: &str| FetchError::BadUrl {
        url: text.chars().take(200).collect(),
        why: why.into(),
    };
    if text.len() > MAX_BYTES {
        return Err(bad("it is longer than 2048 bytes"));
    }
    let url = Url::parse(text.trim()).map_err(|error| match error {
        url::ParseError::RelativeUrlWithoutBase => bad("a URL begins with https:// or http://"),
        other => bad(&other.to_string()),
    })?;
    check(&url)?;
    Ok(normalized(&url))
}

/// Refuses what no document of the web is at.
pub(super) fn check(url: &Url) -> Result<(), FetchError> {
    let why = if !matches!(url.scheme(), "http" | "https") {
        "only http and https are fetched"
    } else if url.host_str().is_none_or(str::is_empty) {
        "it names no host"
    } else if !url.username().is_empty() || url.password().is_some() {
        "it has a user name or password in it"
    } else if url.as_str().len() > MAX_BYTES {
        "it is longer than 2048 bytes"
    } else {
        return Ok(());
    };
    // Without what may be secret.
    let mut shown = url.clone();
    let _ = shown.set_password(None);
    Err(FetchError::BadUrl {
        url: shown.as_str().chars().take(200).collect(),
        why: why.into(),
    })
}

/// The same address as it is compared: no fragment, no parameters that track, escapes written in one way.
pub fn normalized(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_fragment(None);
    let path = uniform_escapes(url.path());
    url.set_path(&path);
    if let Some(query) = url.query() {
        let is_tracking = |pair: &&str| {
            let name = pair.split('=').next().unwrap_or_default();
            name.starts_with("utm_") || TRACKING.contains(&name)
        };
        let kept: Vec<&str> = query.split('&').filter(|pair| !is_tracking(pair)).collect();
        let kept = uniform_escapes(&kept.join("&"));
        url.set_query(Some(kept.as_str()).filter(|query| !query.is_empty()));
    }
    url
}

/// Percent-encoding in one way: letters, digits and `-._~` as they are, hexadecimal digits in upper case, all that is
/// not ASCII escaped (RFC 3986, 6.2.2).
pub(super) fn uniform_escapes(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (byte, is_escaped) = match escaped {
            Some(byte) => (byte, true),
            None => (bytes[at], false),
        };
        at += if is_escaped { 3 } else { 1 };
        let is_plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if is_plain || (!is_escaped && byte.is_ascii()) {
            out.push(byte as char);
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_document_has_one_address() {
        for (written, normal) in [
            ("HTTP://Example.org:80", "http://example.org/"),
            ("https://example.org:443/a#part", "https://example.org/a"),
            ("https://example.org/a/./b/../c", "https://example.org/a/c"),
            (
                "https://example.org/%7euser/%c3%a4",
                "https://example.org/~user/%C3%A4",
            ),
            ("https://example.org/ä", "https://example.org/%C3%A4"),
            ("https://example.org/a?", "https://example.org/a"),
            (
                "https://example.org/a?utm_source=x&id=1&gclid=2",
                "https://example.org/a?id=1",
            ),
            ("https://example.org/a%2Fb", "https://example.org/a%2Fb"),
            ("http://2130706433/", "http://127.0.0.1/"),
        ] {
            assert_eq!(parse_url(written).unwrap().as_str(), normal, "{written}");
            assert_eq!(parse_url(normal).unwrap().as_str(), normal, "{normal}");
        }
    }

    #[test]
    fn what_is_no_web_document_is_refused_with_the_reason() {
        for (written, why) in [
            ("ftp://example.org/", "only http and https"),
            ("file:///etc/passwd", "only http and https"),
            ("example.org", "begins with https:// or http://"),
            ("https://me:secret@example.org/", "user name or password"),
        ] {
            let error = parse_url(written).unwrap_err().to_string();
            assert!(error.contains(why), "{written}: {error}");
        }
        let error = check(&Url::parse("https://me:secret@example.org/").unwrap());
        assert!(!error.unwrap_err().to_string().contains("secret"));
    }
}
