//! What the reading child process and its parent say to each other. Parsers print to the standard output as they
//! like, and a hostile file may make them: a message counts only behind a mark that the file cannot know.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use super::{Format, Heading};

/// The first line of the child's standard input; the file follows it until the end.
/// Not `Debug`: it may carry a password.
#[derive(Clone, Serialize, Deserialize)]
pub struct Request {
    pub mark: String,
    /// Pages before this one were read by an earlier child.
    pub first_page: u32,
    pub memory_bytes: u64,
    pub cpu_seconds: u64,
    pub format: Format,
    pub filename: String,
    #[serde(default)]
    pub password: Option<String>,
    /// Pictures of scanned pages are wanted.
    #[serde(default)]
    pub wants_scans: bool,
}

/// The child's messages, in this order: `Opened`, a `Page` for each page, `Done`; or `Refused` alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    Opened {
        num_pages: u32,
        title: Option<String>,
    },
    Page(Page),
    Refused(Refusal),
    Done,
}

/// What is read in one go, and lost alone: a page of a PDF, a slide, a sheet, a chapter, a member of an archive, or a
/// whole document that has no such parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    pub number: u32,
    pub content: Result<PageContent, String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageContent {
    pub text: String,
    pub has_images: bool,
    /// What a page shows whose text can only be recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<Scan>,
    /// Offsets count from the beginning of `text`.
    #[serde(default)]
    pub headings: Vec<Heading>,
    /// Where in `text` a further page begins, by rising offset.
    #[serde(default)]
    pub breaks: Vec<usize>,
    /// What of it is not in `text`, and why: a warning each. Never text, since nobody wrote it.
    #[serde(default)]
    pub unread: Vec<String>,
}

/// Reasons in a line: as many as somebody would read, and how many more there are.
pub fn listed(reasons: &[String]) -> String {
    const MAX_TOLD: usize = 20;
    let told = reasons.iter().take(MAX_TOLD).cloned();
    let mut told = told.collect::<Vec<_>>().join("; ");
    if reasons.len() > MAX_TOLD {
        told.push_str(&format!("; and {} more", reasons.len() - MAX_TOLD));
    }
    told
}

/// A page that is a picture, or whose fonts do not tell their letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// The one image that fills the page; without it only a renderer can show the page.
    pub picture: Option<Picture>,
    /// Why the page has failed, unless its words are recognised.
    pub failure: Option<String>,
}

/// An image in a format that image readers know.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    #[serde(with = "base64_text")]
    pub bytes: Vec<u8>,
    pub dots_per_inch: u32,
    /// It stands on the page as it is stored.
    pub is_upright: bool,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Picture({} bytes, {} dpi)",
            self.bytes.len(),
            self.dots_per_inch
        )
    }
}

mod base64_text {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    Encrypted,
    NeedsPassword,
    WrongPassword,
    Invalid(String),
    NoText(String),
}

pub fn write_request(out: &mut Vec<u8>, request: &Request) {
    serde_json::to_writer(&mut *out, request).expect("a request is plain data");
    out.push(b'\n');
}

pub fn read_request(input: &mut impl BufRead) -> io::Result<Request> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    serde_json::from_str(&line).map_err(io::Error::from)
}

/// Writes one message on a line of its own and flushes it: what was said survives a crash.
pub fn write_message(out: &mut impl Write, mark: &str, message: &Message) -> io::Result<()> {
    let json = serde_json::to_string(message)?;
    out.write_all(format!("\n{mark}{json}\n").as_bytes())?;
    out.flush()
}

/// The message on a line, or `None` for noise.
pub fn parse_message(line: &[u8], mark: &str) -> Option<Message> {
    serde_json::from_slice(line.strip_prefix(mark.as_bytes())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_not_taken_for_a_message() {
        let mut out = b"no line end".to_vec();
        write_message(&mut out, "mark", &Message::Done).expect("written");
        let lines: Vec<_> = out
            .split(|byte| *byte == b'\n')
            .map(|line| parse_message(line, "mark"))
            .collect();
        assert_eq!(lines, [None, Some(Message::Done), None]);
        assert_eq!(parse_message(b"other\"done\"", "mark"), None);
        assert_eq!(parse_message(b"mark\"do", "mark"), None);
    }
}
