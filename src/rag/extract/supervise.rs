//! Reads a file in a child process that can be killed: parsers panic, loop and eat memory on hostile files. One bad
//! page must not lose the document: the child is started again behind it.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::Instant;

use super::ocr::PageRecognition;
use super::protocol::{self, Message, PageContent, Refusal, Request, listed};
use super::{
    ExtractError, ExtractLimits, ExtractedText, Format, Original, PageOutcome, PageSpan, PagesRead,
    pdf, worker,
};

/// How often a child is started again after a page ended it. Every start opens the document anew.
const MAX_RESTARTS: usize = 5;

/// A file that is known to be of `format`.
pub async fn read(
    original: Original<'_>,
    format: Format,
    limits: &ExtractLimits,
    told: &watch::Sender<PagesRead>,
) -> Result<ExtractedText, ExtractError> {
    let mut deadline = Instant::now() + limits.wall_time;
    let mut reading = Reading::new(format, &original, limits, told);
    let mut num_restarts = 0;
    loop {
        let ending = run_child(&original, limits, &mut deadline, &mut reading).await?;
        let failure = match ending {
            Ending::Done => break,
            Ending::TooMuch(reason) => return Err(ExtractError::Invalid { format, reason }),
            Ending::Refused(Refusal::Encrypted) => return Err(ExtractError::Encrypted),
            Ending::Refused(Refusal::NeedsPassword) => return Err(ExtractError::NeedsPassword),
            Ending::Refused(Refusal::WrongPassword) => return Err(ExtractError::WrongPassword),
            Ending::Refused(Refusal::Invalid(reason)) => {
                return Err(ExtractError::Invalid { format, reason });
            }
            Ending::Refused(Refusal::NoText(reason)) => {
                return Err(ExtractError::NoText { format, reason });
            }
            Ending::Failed(failure) => failure,
        };
        if reading.num_pages == 0 {
            return Err(failure.into_error(format, limits));
        }
        if matches!(failure, Failure::WallTime) || num_restarts == MAX_RESTARTS {
            if reading.pages.iter().all(Result::is_err) {
                return Err(failure.into_error(format, limits));
            }
            let reason = match failure {
                Failure::WallTime => format!("not reached within {} s", limits.wall_time.as_secs()),
                _ => "not read, because pages before it ended the reader too often".to_owned(),
            };
            reading.fail_rest(&reason);
            break;
        }
        reading.add(Err(failure.reason(limits)));
        if reading.is_complete() {
            break;
        }
        num_restarts += 1;
    }
    let pages = reading.into_pages();
    let put_together = tokio::task::spawn_blocking(move || pages.into_text()).await;
    put_together.unwrap_or_else(|error| {
        Err(ExtractError::Crashed {
            format,
            reason: error.to_string(),
        })
    })
}

/// Pages, slides, sheets, chapters or members of a document.
const MAX_PARTS: u32 = 50_000;
/// Text of a document, with that of all it contains: a small archive may hold the same text many times.
const MAX_DOCUMENT_BYTES: usize = 256 << 20;
/// Messages of at most this length are understood where they are heard; longer ones away from the threads that serve.
const SHORT_MESSAGE: usize = 64 << 10;

/// What was read so far; a page's place is its number less one.
struct Reading<'a> {
    format: Format,
    num_pages: u32,
    title: Option<String>,
    pages: Vec<Result<PageRead, String>>,
    /// Of text, in all pages.
    num_bytes: usize,
    recognition: PageRecognition<'a>,
    told: &'a watch::Sender<PagesRead>,
}

/// A page that was read, and how.
#[derive(Default)]
struct PageRead {
    content: PageContent,
    how: How,
}

#[derive(Default)]
enum How {
    #[default]
    AsText,
    Recognised(u8),
    /// It is a picture, and why it was not recognised.
    NotRecognised(String),
}

impl<'a> Reading<'a> {
    fn new(
        format: Format,
        original: &'a Original<'_>,
        limits: &'a ExtractLimits,
        told: &'a watch::Sender<PagesRead>,
    ) -> Self {
        let has_password = original.password.is_some();
        Self {
            format,
            num_pages: 0,
            title: None,
            pages: Vec::new(),
            num_bytes: 0,
            recognition: PageRecognition::new(&original.bytes, has_password, limits),
            told,
        }
    }

    fn open(&mut self, num_pages: u32, title: Option<String>) {
        self.num_pages = num_pages;
        self.title = title;
        self.told.send_modify(|told| told.num_pages = num_pages);
    }

    /// Adds what came of the next page, recognised if it is a scan.
    async fn add_read(&mut self, content: Result<PageContent, String>) {
        let page = match content {
            Ok(content) => self.page_read(content).await,
            Err(reason) => Err(reason),
        };
        self.add(page);
    }

    async fn page_read(&mut self, mut content: PageContent) -> Result<PageRead, String> {
        let Some(scan) = content.scan.take() else {
            let how = How::AsText;
            return Ok(PageRead { content, how });
        };
        let failure = scan.failure.clone();
        let number = self.pages.len() as u32 + 1;
        let how = match self.recognition.read(number, scan).await {
            Ok(read) => {
                content.text = read.text;
                How::Recognised(read.confidence)
            }
            Err(reason) => match failure {
                Some(failure) => return Err(format!("{failure}; {reason}")),
                None => How::NotRecognised(reason),
            },
        };
        Ok(PageRead { content, how })
    }

    fn add(&mut self, page: Result<PageRead, String>) {
        let num_bytes = page.as_ref().map_or(0, |page| page.content.text.len());
        self.num_bytes += num_bytes;
        self.told.send_modify(|told| {
            told.outcomes.push(outcome(&page));
            told.num_bytes += num_bytes;
        });
        self.pages.push(page);
    }

    fn is_complete(&self) -> bool {
        self.pages.len() >= self.num_pages as usize
    }

    fn fail_rest(&mut self, reason: &str) {
        while !self.is_complete() {
            self.add(Err(reason.to_owned()));
        }
    }

    fn into_pages(self) -> Pages {
        Pages {
            format: self.format,
            title: self.title,
            pages: self.pages,
        }
    }
}

/// All pages of a document, to be put together.
struct Pages {
    format: Format,
    title: Option<String>,
    pages: Vec<Result<PageRead, String>>,
}

impl Pages {
    fn into_text(self) -> Result<ExtractedText, ExtractError> {
        if let Some(reason) = self.why_no_text() {
            return Err(ExtractError::NoText {
                format: self.format,
                reason,
            });
        }
        let mut document = ExtractedText {
            format: self.format,
            title: self.title,
            text: String::new(),
            pages: Vec::new(),
            headings: Vec::new(),
        };
        for page in self.pages {
            append(&mut document, page);
        }
        Ok(document)
    }

    fn why_no_text(&self) -> Option<String> {
        if self
            .pages
            .iter()
            .flatten()
            .any(|page| !page.content.text.is_empty())
        {
            return None;
        }
        let not_recognised = self
            .pages
            .iter()
            .flatten()
            .find_map(|page| match &page.how {
                How::NotRecognised(reason) => Some(reason),
                _ => None,
            });
        if let Some(reason) = not_recognised {
            return Some(format!("its pages are scans, and {reason}"));
        }
        if let Some(reason) = self.pages.iter().find_map(|page| page.as_ref().err()) {
            return Some(match self.format {
                Format::Pdf => format!("no page could be read ({reason})"),
                _ => format!("no part of it could be read ({reason})"),
            });
        }
        let has_images = self
            .pages
            .iter()
            .flatten()
            .any(|page| page.content.has_images);
        Some(match has_images {
            true if self.format == Format::Pdf => {
                "its pages show small pictures only; if these show words, export its pages as images"
                    .to_owned()
            }
            true => {
                "there are only pictures in it; save it as a PDF, whose pages can be recognised"
                    .to_owned()
            }
            false if self.format == Format::Pdf => {
                "its pages are blank or drawings; if these show words, export it with text that can be selected, or its \
                 pages as images"
                    .to_owned()
            }
            false => "there are no words in it".to_owned(),
        })
    }
}

fn outcome(page: &Result<PageRead, String>) -> PageOutcome {
    let page = match page {
        Ok(page) => page,
        Err(reason) => return PageOutcome::Failed(reason.clone()),
    };
    match &page.how {
        How::Recognised(confidence) => PageOutcome::Recognised {
            confidence: *confidence,
        },
        How::NotRecognised(reason) => PageOutcome::Scanned(reason.clone()),
        How::AsText if !page.content.unread.is_empty() => {
            PageOutcome::ReadInPart(listed(&page.content.unread))
        }
        How::AsText if page.content.text.is_empty() => PageOutcome::Empty,
        How::AsText => PageOutcome::Read,
    }
}

/// Adds what was read in one go behind what the document has already.
fn append(document: &mut ExtractedText, page: Result<PageRead, String>) {
    let outcome = outcome(&page);
    let content = page.unwrap_or_default().content;
    let text = &mut document.text;
    if !content.text.is_empty() && !text.is_empty() {
        text.push_str(match document.format {
            Format::Pdf => pdf::page_break(text, &content.text),
            _ => "\n\n",
        });
    }
    let start = text.len();
    text.push_str(&content.text);
    for mut heading in content.headings {
        heading.offset += start;
        document.headings.push(heading);
    }
    let mut begin = 0;
    for end in content.breaks.into_iter().chain([content.text.len()]) {
        let words = content.text[begin..end].trim_end();
        let outcome = match &outcome {
            PageOutcome::Read if words.is_empty() => PageOutcome::Empty,
            // Which of several pages it is about is not known, and it is told once.
            PageOutcome::ReadInPart(_) if begin > 0 => match words.is_empty() {
                true => PageOutcome::Empty,
                false => PageOutcome::Read,
            },
            outcome => outcome.clone(),
        };
        document.pages.push(PageSpan {
            number: document.pages.len() as u32 + 1,
            span: start + begin..start + begin + words.len(),
            outcome,
        });
        begin = end;
    }
}

enum Ending {
    Done,
    TooMuch(String),
    Refused(Refusal),
    Failed(Failure),
}

/// Why a child ended, or was ended, before it was done.
enum Failure {
    WallTime,
    PageTime,
    OutOfMemory,
    Crashed(String),
    NotStarted(String),
}

impl Failure {
    /// For the page that the child was at.
    fn reason(&self, limits: &ExtractLimits) -> String {
        match self {
            Self::WallTime => format!("took longer than {} s", limits.wall_time.as_secs()),
            Self::PageTime => format!("took longer than {} s", limits.page_time.as_secs()),
            Self::OutOfMemory => format!("needs more than {} bytes of memory", limits.memory_bytes),
            Self::Crashed(reason) | Self::NotStarted(reason) => {
                format!("crashed its reader ({reason})")
            }
        }
    }

    fn into_error(self, format: Format, limits: &ExtractLimits) -> ExtractError {
        match self {
            Self::WallTime => ExtractError::TimedOut {
                format,
                seconds: limits.wall_time.as_secs(),
            },
            Self::PageTime => ExtractError::TimedOut {
                format,
                seconds: limits.page_time.as_secs(),
            },
            Self::OutOfMemory => ExtractError::OutOfMemory {
                format,
                memory_bytes: limits.memory_bytes,
            },
            Self::Crashed(reason) => ExtractError::Crashed { format, reason },
            Self::NotStarted(reason) => ExtractError::Worker {
                program: limits.program.clone(),
                reason,
            },
        }
    }
}

/// Runs one child and adds what it reads to `reading`.
async fn run_child(
    original: &Original<'_>,
    limits: &ExtractLimits,
    deadline: &mut Instant,
    reading: &mut Reading<'_>,
) -> Result<Ending, ExtractError> {
    let mark = new_mark();
    let request = Request {
        mark: mark.clone(),
        first_page: reading.pages.len() as u32 + 1,
        memory_bytes: limits.memory_bytes,
        cpu_seconds: worker::cpu_seconds(limits.wall_time),
        format: reading.format,
        filename: original.filename.to_owned(),
        password: original.password.map(str::to_owned),
        wants_scans: reading.recognition.is_available(),
    };
    let not_started = |reason: String| ExtractError::Worker {
        program: limits.program.clone(),
        reason,
    };
    let mut child = Command::new(&limits.program)
        .arg("extract-worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| not_started(error.to_string()))?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");

    let send = async move {
        let mut head = Vec::new();
        protocol::write_request(&mut head, &request);
        // A child that has died or refused no longer reads; its messages and its end say what happened.
        if stdin.write_all(&head).await.is_ok() {
            let _ = stdin.write_all(&original.bytes).await;
        }
    };
    let errors = tokio::spawn(tail(stderr));
    let heard = {
        let listen = listen(stdout, &mark, limits.page_time, deadline, reading);
        tokio::pin!(listen, send);
        let mut is_sent = false;
        loop {
            tokio::select! {
                heard = &mut listen => break heard,
                () = &mut send, if !is_sent => is_sent = true,
            }
        }
    };
    // It has ended, or there is nothing more to hear from it.
    let _ = child.start_kill();
    let status = child.wait().await;
    let errors = errors.await.unwrap_or_default();
    Ok(match heard {
        Heard::Done => Ending::Done,
        Heard::Refused(refusal) => Ending::Refused(refusal),
        Heard::TooMuch(reason) => Ending::TooMuch(reason),
        Heard::PageTime => Ending::Failed(Failure::PageTime),
        Heard::WallTime => Ending::Failed(Failure::WallTime),
        Heard::End => {
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            tracing::debug!(%status, errors = %errors.trim_end(), "the document reader ended early");
            Ending::Failed(failure_from(&status, &errors, reading.num_pages > 0))
        }
    })
}

fn failure_from(status: &str, errors: &str, has_opened: bool) -> Failure {
    if errors.contains("memory allocation of") {
        Failure::OutOfMemory
    } else if errors.contains("overflowed its stack") {
        Failure::Crashed("its content is nested too deeply".to_owned())
    } else if status.contains("signal") || has_opened {
        Failure::Crashed(status.to_owned())
    } else {
        Failure::NotStarted(status.to_owned())
    }
}

enum Heard {
    Done,
    Refused(Refusal),
    /// More than this process takes.
    TooMuch(String),
    PageTime,
    WallTime,
    /// The output ended without a last message.
    End,
}

/// Follows the child's messages until the last one, its silence or the deadline.
async fn listen(
    stdout: ChildStdout,
    mark: &str,
    page_time: Duration,
    deadline: &mut Instant,
    reading: &mut Reading<'_>,
) -> Heard {
    // A page's text is limited (`writer::MAX_PAGE_BYTES`, and the glyphs of a PDF's page), and twice as long when every
    // character of it is escaped; so is the picture of a scan. Noise is cut off.
    const MAX_LINE: u64 = 256 << 20;
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        let quiet = Instant::now() + page_time;
        let message = loop {
            line.clear();
            let mut limited = (&mut stdout).take(MAX_LINE);
            let until = quiet.min(*deadline);
            match tokio::time::timeout_at(until, limited.read_until(b'\n', &mut line)).await {
                Err(_) if *deadline <= quiet => return Heard::WallTime,
                Err(_) => return Heard::PageTime,
                Ok(Err(_)) | Ok(Ok(0)) => return Heard::End,
                Ok(Ok(_)) => {}
            }
            if let Some(message) = understood(&mut line, mark).await {
                break message;
            }
        };
        match message {
            Message::Opened { num_pages, .. } if num_pages > MAX_PARTS => {
                return Heard::TooMuch(format!(
                    "it has {num_pages} parts, more than the limit of {MAX_PARTS}"
                ));
            }
            Message::Opened { num_pages, title } => reading.open(num_pages, title),
            Message::Page(page) => {
                // The child waits meanwhile, and its time with it.
                let started = Instant::now();
                reading.add_read(page.content).await;
                *deadline += started.elapsed();
                if reading.num_bytes > MAX_DOCUMENT_BYTES {
                    return Heard::TooMuch(format!(
                        "it has more text than the limit of {MAX_DOCUMENT_BYTES} bytes"
                    ));
                }
            }
            Message::Refused(refusal) => return Heard::Refused(refusal),
            Message::Done => return Heard::Done,
        }
    }
}

/// The message on a line, if it is one.
async fn understood(line: &mut Vec<u8>, mark: &str) -> Option<Message> {
    if line.len() <= SHORT_MESSAGE {
        return protocol::parse_message(line.trim_ascii_end(), mark);
    }
    let (line, mark) = (std::mem::take(line), mark.to_owned());
    let parse = move || protocol::parse_message(line.trim_ascii_end(), &mark);
    tokio::task::spawn_blocking(parse).await.ok().flatten()
}

/// The end of what the child wrote as errors.
async fn tail(mut stderr: ChildStderr) -> String {
    const KEPT: usize = 16 << 10;
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = stderr.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..n]);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn new_mark() -> String {
    format!("{:032x}:", rand::random::<u128>())
}
