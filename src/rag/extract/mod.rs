//! Bytes of an uploaded file to text that can be cited: with the span of every page and the place of every heading.
//! The text is final: citations are byte spans of it. Never trusts a file: it may be hostile, cut short or misnamed.

mod archive;
mod container;
mod delimited;
mod email;
mod epub;
mod format;
mod html;
mod json;
mod markdown;
mod notebook;
pub mod ocr;
mod odf;
mod office;
mod old_encodings;
mod pdf;
mod protocol;
mod reader;
mod rtf;
mod supervise;
mod table;
mod text;
pub mod worker;
mod writer;
mod xml;
mod zipped;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use encoding_rs::Encoding;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use format::{Format, SUPPORTED, known_advice};
pub use ocr::{Recognition, Recognizer};

/// A file as it came.
#[derive(Clone)]
pub struct Original<'a> {
    pub bytes: Vec<u8>,
    pub filename: &'a str,
    /// What opens it, if it is encrypted. Never logged, and gone with this value.
    pub password: Option<&'a str>,
    /// What whoever sent it said of its letters, which only counts for text.
    pub charset: Option<&'static Encoding>,
}

impl<'a> Original<'a> {
    pub fn new(bytes: Vec<u8>, filename: &'a str) -> Self {
        Self {
            bytes,
            filename,
            password: None,
            charset: None,
        }
    }

    /// A file that was kept with its media type, which may name a charset.
    pub fn stored(bytes: Vec<u8>, filename: &'a str, media_type: &str) -> Self {
        let charset = media_type.split(';').skip(1).find_map(|parameter| {
            let (name, label) = parameter.split_once('=')?;
            let is_charset = name.trim().eq_ignore_ascii_case("charset");
            let label = label.trim().trim_matches('"');
            is_charset.then(|| Encoding::for_label(label.as_bytes()))?
        });
        Self {
            charset,
            ..Self::new(bytes, filename)
        }
    }
}

/// A document's text and what is known about its structure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtractedText {
    pub format: Format,
    pub title: Option<String>,
    pub text: String,
    /// In order and not overlapping. Formats without pages have one page, number 1.
    pub pages: Vec<PageSpan>,
    /// By rising offset.
    pub headings: Vec<Heading>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PageSpan {
    /// Counted from 1.
    pub number: u32,
    /// Bytes of the text.
    pub span: Range<usize>,
    pub outcome: PageOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageOutcome {
    Read,
    /// The page was read but for a part of it, and why.
    ReadInPart(String),
    /// The page is a picture whose words were recognised, with their mean confidence from 0 to 100.
    Recognised {
        confidence: u8,
    },
    /// The page was read and has no text.
    Empty,
    /// The page is a picture, and why its words were not recognised.
    Scanned(String),
    /// The page could not be read, and why.
    Failed(String),
}

impl PageOutcome {
    pub fn has_text(&self) -> bool {
        matches!(
            self,
            Self::Read | Self::ReadInPart(_) | Self::Recognised { .. }
        )
    }
}

/// A heading whose line begins at byte `offset` of the text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heading {
    /// From 1, the outermost.
    pub level: u8,
    pub title: String,
    pub offset: usize,
}

/// What one document may cost.
#[derive(Debug, Clone)]
pub struct ExtractLimits {
    /// The program whose `extract-worker` command reads files in a child process.
    pub program: PathBuf,
    /// For the whole document.
    pub wall_time: Duration,
    /// For opening the document, and for each page or other part that is read in one go.
    pub page_time: Duration,
    /// Memory that the child process may map for the document.
    pub memory_bytes: u64,
    /// The largest file that is read at all.
    pub max_bytes: usize,
    /// For recognising the words of all scanned pages together, beside the wall time.
    pub recognition_time: Duration,
    /// Who reads scanned pages.
    pub recognition: Recognition,
}

impl ExtractLimits {
    /// Limits that suit a shared machine; `program` is usually `std::env::current_exe()`.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            wall_time: Duration::from_secs(300),
            page_time: Duration::from_secs(20),
            memory_bytes: 2 << 30,
            max_bytes: 512 << 20,
            recognition_time: Duration::from_secs(3600),
            recognition: Recognition::switched_off(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    #[error(
        "{filename:?} is {found}, which is not supported; {}",
        format::advice(.found)
    )]
    UnsupportedFormat { filename: String, found: String },
    #[error("{filename:?} is empty; upload a file with text in it")]
    Empty { filename: String },
    #[error("the file is encrypted; remove its password and upload it again")]
    Encrypted,
    #[error(
        "the PDF needs a password; attach the file again with 'password' (or inglenook ingest --password), or save it \
         without one"
    )]
    NeedsPassword,
    #[error(
        "the given password does not open the PDF; attach the file again with the right 'password'"
    )]
    WrongPassword,
    #[error("{filename:?} is {found}, and {reason}")]
    NeedsRecognition {
        filename: String,
        found: &'static str,
        reason: String,
    },
    #[error("the {format} has no text to read: {reason}")]
    NoText { format: Format, reason: String },
    #[error("the {format} cannot be read: {reason}; repair or export it again")]
    Invalid { format: Format, reason: String },
    #[error("the file has {num_bytes} bytes, more than the limit of {max_bytes}; split it")]
    TooLarge { num_bytes: usize, max_bytes: usize },
    #[error("reading the {format} took longer than {seconds} s; split it or export it again")]
    TimedOut { format: Format, seconds: u64 },
    #[error("reading the {format} needs more than {memory_bytes} bytes of memory; split it")]
    OutOfMemory { format: Format, memory_bytes: u64 },
    #[error("the {format} crashed its reader ({reason}); repair or export it again")]
    Crashed { format: Format, reason: String },
    /// Nothing is wrong with the file.
    #[error("the document reader {program:?} did not start or answer: {reason}")]
    Worker { program: PathBuf, reason: String },
}

impl ExtractError {
    /// The code under which a document's status reports the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnsupportedFormat { .. } | Self::NeedsRecognition { .. } => "unsupported_file",
            Self::Empty { .. }
            | Self::Encrypted
            | Self::NeedsPassword
            | Self::WrongPassword
            | Self::NoText { .. }
            | Self::Invalid { .. }
            | Self::TooLarge { .. }
            | Self::TimedOut { .. }
            | Self::OutOfMemory { .. }
            | Self::Crashed { .. } => "invalid_file",
            Self::Worker { .. } => "server_error",
        }
    }
}

/// How far the reading of a file is. What counts as a page here is read in one go; the text may have more pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PagesRead {
    /// Of those that were read, in order.
    pub outcomes: Vec<PageOutcome>,
    /// 0 while it is not known.
    pub num_pages: u32,
    /// Of text, so far.
    pub num_bytes: usize,
}

/// Reads a file. What it is, is decided by its content first and its name second.
///
/// Needs a tokio runtime with I/O and time. Dropping the future ends the child process that reads the file.
pub async fn extract(
    original: Original<'_>,
    limits: &ExtractLimits,
) -> Result<ExtractedText, ExtractError> {
    extract_watched(original, limits, &watch::Sender::default()).await
}

/// As [`extract`], telling each page as it is read.
pub async fn extract_watched(
    original: Original<'_>,
    limits: &ExtractLimits,
    pages: &watch::Sender<PagesRead>,
) -> Result<ExtractedText, ExtractError> {
    let filename = original.filename.to_owned();
    let num_bytes = original.bytes.len();
    if num_bytes > limits.max_bytes {
        return Err(ExtractError::TooLarge {
            num_bytes,
            max_bytes: limits.max_bytes,
        });
    }
    if num_bytes == 0 {
        return Err(ExtractError::Empty { filename });
    }
    let (original, format) = decoded_as_sent(detect(original).await?).await?;
    match format {
        // Without a parser that could be led astray, or with one that is fit for any input.
        Format::Html => {
            let bytes = original.bytes;
            on_big_stack(format, limits.wall_time, move || html::extract(&bytes)).await
        }
        Format::Markdown | Format::Text => {
            let bytes = original.bytes;
            on_big_stack(format, limits.wall_time, move || {
                let text = text::decode(&bytes);
                drop(bytes);
                if text.trim().is_empty() {
                    return Err(ExtractError::Empty { filename });
                }
                Ok(match format {
                    Format::Markdown => markdown::extract(text),
                    _ => single_page(format, None, text, Vec::new()),
                })
            })
            .await
        }
        Format::Image => ocr::read_image(original, limits).await,
        _ => supervise::read(original, format, limits, pages).await,
    }
}

/// What a file is, or why it cannot be read. Looks through the whole file in the worst case.
pub fn format_of(bytes: &[u8], filename: &str) -> Result<Format, ExtractError> {
    format::detect(bytes, filename)
}

/// Looks through the whole file in the worst case, and so away from the threads that serve when it is large.
async fn detect(mut original: Original<'_>) -> Result<(Original<'_>, Format), ExtractError> {
    const SMALL: usize = 64 << 10;
    if original.bytes.len() <= SMALL {
        let format = format::detect(&original.bytes, original.filename)?;
        return Ok((original, format));
    }
    let bytes = std::mem::take(&mut original.bytes);
    let name = original.filename.to_owned();
    let detected = tokio::task::spawn_blocking(move || {
        let format = format::detect(&bytes, &name);
        (bytes, format)
    });
    let (bytes, format) = detected.await.map_err(|error| ExtractError::Worker {
        program: "format detection".into(),
        reason: error.to_string(),
    })?;
    Ok((Original { bytes, ..original }, format?))
}

/// Text in the encoding that its sender named becomes UTF-8.
async fn decoded_as_sent(
    (mut original, format): (Original<'_>, Format),
) -> Result<(Original<'_>, Format), ExtractError> {
    let is_text = matches!(
        format,
        Format::Html | Format::Markdown | Format::Text | Format::Csv
    );
    if let Some(charset) = original.charset.filter(|_| is_text) {
        let bytes = std::mem::take(&mut original.bytes);
        let decoded = tokio::task::spawn_blocking(move || text::sent_as(charset, bytes));
        original.bytes = decoded.await.map_err(|error| ExtractError::Worker {
            program: "text decoder".into(),
            reason: error.to_string(),
        })?;
    }
    Ok((original, format))
}

/// A document that knows no pages.
fn single_page(
    format: Format,
    title: Option<String>,
    text: String,
    headings: Vec<Heading>,
) -> ExtractedText {
    let pages = vec![PageSpan {
        number: 1,
        span: 0..text.len(),
        outcome: PageOutcome::Read,
    }];
    ExtractedText {
        format,
        title,
        text,
        pages,
        headings,
    }
}

/// Runs a reader where deep nesting cannot overflow the stack and a panic is only this document's.
/// A thread cannot be killed: one that is late is left to end by itself, and nobody waits for it.
async fn on_big_stack<F>(
    format: Format,
    wall_time: Duration,
    read: F,
) -> Result<ExtractedText, ExtractError>
where
    F: FnOnce() -> Result<ExtractedText, ExtractError> + Send + 'static,
{
    const STACK_BYTES: usize = 256 << 20;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let started = std::thread::Builder::new()
        .name("extract".into())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            // Nobody waits any more when the receiver is gone.
            let _ = sender.send(read());
        });
    if let Err(error) = started {
        return Err(ExtractError::Worker {
            program: "extract thread".into(),
            reason: error.to_string(),
        });
    }
    match tokio::time::timeout(wall_time, receiver).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(ExtractError::Crashed {
            format,
            reason: "its reader panicked".into(),
        }),
        Err(_) => Err(ExtractError::TimedOut {
            format,
            seconds: wall_time.as_secs(),
        }),
    }
}
