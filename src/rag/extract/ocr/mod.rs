//! Recognises the words of pictures with tesseract, and shows pages with pdftoppm where that is needed. Both are other
//! people's programs run on hostile files: each run is a child process with limits of memory and time.

mod program;
mod words;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::format;
use super::protocol::{Picture, Scan};
use super::{ExtractError, ExtractLimits, ExtractedText, Format, Original, PageOutcome, PageSpan};
use program::Program;
use words::RecognisedPage;

pub use program::run_limited;

/// Below this mean confidence what was recognised is noise: a photograph, a drawing, another script.
const MIN_CONFIDENCE: u8 = 30;
/// Below this mean confidence a reader should look at the page.
pub const GOOD_CONFIDENCE: u8 = 70;
/// Resolution at which pages are shown to tesseract; its makers advise 300.
const DOTS_PER_INCH: u32 = 300;

/// Whether words in pictures are recognised.
#[derive(Debug, Clone)]
pub enum Recognition {
    /// Why not, and what to do about it.
    Unavailable(String),
    With(Recognizer),
}

impl Recognition {
    pub fn switched_off() -> Self {
        Self::Unavailable("text recognition is switched off (setting ocr)".to_owned())
    }

    pub fn not_installed() -> Self {
        Self::Unavailable(
            "text recognition needs tesseract, which is not installed here; install it (Debian: apt install \
             tesseract-ocr), start Inglenook anew and add the file again"
                .to_owned(),
        )
    }
}

/// The programs that recognise.
#[derive(Debug, Clone)]
pub struct Recognizer {
    tesseract: PathBuf,
    /// Shows pages that are not one upright image.
    pdftoppm: Option<PathBuf>,
    languages: String,
    /// The data that tell which way up a page is (`osd`) are installed.
    finds_orientation: bool,
    pub page_time: Duration,
    pub memory_bytes: u64,
}

impl Recognizer {
    /// Fails, saying what to install, when tesseract does not run or lacks one of the `languages` (as `eng+deu`).
    pub fn new(
        tesseract: PathBuf,
        pdftoppm: Option<PathBuf>,
        languages: &str,
    ) -> Result<Self, String> {
        let installed = program::languages(&tesseract)?;
        let missing = languages
            .split('+')
            .find(|language| !installed.iter().any(|it| it == language));
        if let Some(language) = missing {
            return Err(format!(
                "tesseract has no language {language:?}; install its data (Debian: apt install \
                 tesseract-ocr-{language}) or set ocr_languages to some of: {}",
                installed.join(", ")
            ));
        }
        Ok(Self {
            tesseract,
            pdftoppm,
            languages: languages.to_owned(),
            finds_orientation: installed.iter().any(|it| it == "osd"),
            page_time: Duration::from_secs(60),
            memory_bytes: 2 << 30,
        })
    }

    pub fn languages(&self) -> &str {
        &self.languages
    }

    /// The words of an image, a page for each that is in it. Pages that are read poorly may have been put into the scanner
    /// the wrong way: they are read again as they seem to stand, and the better reading is kept.
    async fn read(
        &self,
        picture: &[u8],
        dots_per_inch: Option<u32>,
        is_upright: bool,
        runner: &Path,
    ) -> Result<Vec<RecognisedPage>, String> {
        let layout = match is_upright {
            true => Layout::Upright,
            false => Layout::AnyWayUp,
        };
        let pages = self.read_as(layout, picture, dots_per_inch, runner).await?;
        let is_poor = |page: &RecognisedPage| page.confidence < GOOD_CONFIDENCE;
        if !(is_upright && self.finds_orientation && pages.iter().any(is_poor)) {
            return Ok(pages);
        }
        let turned = self.read_as(Layout::AnyWayUp, picture, dots_per_inch, runner);
        Ok(match turned.await {
            Ok(turned) => better_of(pages, turned),
            Err(_) => pages,
        })
    }

    async fn read_as(
        &self,
        layout: Layout,
        picture: &[u8],
        dots_per_inch: Option<u32>,
        runner: &Path,
    ) -> Result<Vec<RecognisedPage>, String> {
        let resolution = dots_per_inch.map(|dpi| dpi.to_string());
        let mut arguments = vec!["stdin", "stdout", "-l", &self.languages];
        arguments.extend(["--psm", layout.mode()]);
        if let Some(resolution) = &resolution {
            arguments.extend(["--dpi", resolution]);
        }
        arguments.push("tsv");
        const MAX_TSV_BYTES: u64 = 64 << 20;
        let program = Program {
            runner,
            path: &self.tesseract,
            memory_bytes: self.memory_bytes,
            time: self.page_time,
            max_output_bytes: MAX_TSV_BYTES,
        };
        let table = program.run(&arguments, picture).await?;
        Ok(words::pages(&String::from_utf8_lossy(&table)))
    }

    /// A page of a PDF as an image.
    async fn show(&self, pdf: &Path, page: u32, runner: &Path) -> Result<Vec<u8>, String> {
        let pdftoppm = self
            .pdftoppm
            .as_deref()
            .ok_or("the page must be drawn to be recognised, and pdftoppm is not installed; install poppler-utils")?;
        let (page, resolution) = (page.to_string(), DOTS_PER_INCH.to_string());
        let path = pdf.to_string_lossy();
        // No side longer than a large poster's: a page can be declared kilometres wide.
        let arguments = [
            "-f",
            &page,
            "-l",
            &page,
            "-r",
            &resolution,
            "-gray",
            "-singlefile",
            &path,
        ];
        const MAX_IMAGE_BYTES: u64 = 256 << 20;
        let program = Program {
            runner,
            path: pdftoppm,
            memory_bytes: self.memory_bytes,
            time: self.page_time,
            max_output_bytes: MAX_IMAGE_BYTES,
        };
        program.run(&arguments, &[]).await
    }
}

/// How tesseract lays out a page.
#[derive(Clone, Copy)]
enum Layout {
    Upright,
    /// It looks first which way up the page is.
    AnyWayUp,
}

impl Layout {
    fn mode(self) -> &'static str {
        match self {
            Self::Upright => "3",
            Self::AnyWayUp => "1",
        }
    }
}

/// Of each page the reading that is surer of its words.
fn better_of(pages: Vec<RecognisedPage>, others: Vec<RecognisedPage>) -> Vec<RecognisedPage> {
    if pages.len() != others.len() {
        return pages;
    }
    let both = pages.into_iter().zip(others);
    both.map(|(page, other)| match other.confidence > page.confidence {
        true => other,
        false => page,
    })
    .collect()
}

/// What recognition made of a scanned page.
pub struct RecognisedText {
    pub text: String,
    /// From 0 to 100.
    pub confidence: u8,
}

/// Recognises the scanned pages of one PDF.
pub struct PageRecognition<'a> {
    recognition: &'a Recognition,
    runner: &'a Path,
    pdf: &'a [u8],
    /// A drawn page needs the file on disk, and a file that a password opens is not written there.
    has_password: bool,
    on_disk: Option<tempfile::NamedTempFile>,
    time_left: Duration,
}

impl<'a> PageRecognition<'a> {
    pub fn new(pdf: &'a [u8], has_password: bool, limits: &'a ExtractLimits) -> Self {
        Self {
            recognition: &limits.recognition,
            runner: &limits.program,
            pdf,
            has_password,
            on_disk: None,
            time_left: limits.recognition_time,
        }
    }

    pub fn is_available(&self) -> bool {
        matches!(self.recognition, Recognition::With(_))
    }

    /// The words of page `number`, or why there are none.
    pub async fn read(&mut self, number: u32, scan: Scan) -> Result<RecognisedText, String> {
        let recognizer = match self.recognition {
            Recognition::With(recognizer) => recognizer,
            Recognition::Unavailable(reason) => return Err(reason.clone()),
        };
        if self.time_left.is_zero() {
            return Err("the time for recognising this file is used up; split it".to_owned());
        }
        let (started, time_left) = (tokio::time::Instant::now(), self.time_left);
        let read = self.read_with(recognizer, number, scan);
        let read = match tokio::time::timeout(time_left, read).await {
            Ok(read) => read,
            Err(_) => Err("the time for recognising this file is used up; split it".to_owned()),
        };
        self.time_left = self.time_left.saturating_sub(started.elapsed());
        kept(read?)
    }

    async fn read_with(
        &mut self,
        recognizer: &Recognizer,
        number: u32,
        scan: Scan,
    ) -> Result<Vec<RecognisedPage>, String> {
        let can_draw = recognizer.pdftoppm.is_some() && !self.has_password;
        let picture = scan
            .picture
            .filter(|picture| picture.is_upright || !can_draw);
        let failure = match picture {
            Some(Picture {
                bytes,
                dots_per_inch,
                is_upright,
            }) => {
                let read = recognizer.read(&bytes, Some(dots_per_inch), is_upright, self.runner);
                match read.await {
                    Ok(pages) => return Ok(pages),
                    Err(reason) => Some(reason),
                }
            }
            None => None,
        };
        match failure {
            Some(failure) if !can_draw => return Err(failure),
            None if self.has_password => {
                return Err(
                    "the page must be drawn to be recognised, which is not done with an encrypted file; save it \
                     without a password"
                        .to_owned(),
                );
            }
            _ => {}
        }
        let path = self.path().await?;
        let image = recognizer.show(&path, number, self.runner).await?;
        let dots_per_inch = Some(DOTS_PER_INCH);
        recognizer
            .read(&image, dots_per_inch, true, self.runner)
            .await
    }

    /// The PDF in a file that goes with this value.
    async fn path(&mut self) -> Result<PathBuf, String> {
        if let Some(file) = &self.on_disk {
            return Ok(file.path().to_owned());
        }
        let write = || {
            let mut file = tempfile::Builder::new().suffix(".pdf").tempfile()?;
            std::io::Write::write_all(&mut file, self.pdf)?;
            Ok(file)
        };
        let file = write().map_err(|error: std::io::Error| {
            format!("the page could not be drawn: no temporary file ({error})")
        })?;
        Ok(self.on_disk.insert(file).path().to_owned())
    }
}

/// One page's words, unless they are noise.
fn kept(pages: Vec<RecognisedPage>) -> Result<RecognisedText, String> {
    let num_words: u64 = pages.iter().map(|page| page.num_words).sum();
    let sum: u64 = pages
        .iter()
        .map(|page| page.num_words * u64::from(page.confidence))
        .sum();
    let confidence = (sum / num_words.max(1)) as u8;
    let texts: Vec<String> = pages.into_iter().map(|page| page.text).collect();
    let text = texts.join("\n\n").trim().to_owned();
    if text.is_empty() {
        return Err("no words were recognised on it".to_owned());
    }
    if confidence < MIN_CONFIDENCE {
        return Err(format!(
            "what was recognised on it is not words (a confidence of {confidence} of 100); scan it more clearly if it \
             has text, or set ocr_languages to its language"
        ));
    }
    Ok(RecognisedText { text, confidence })
}

/// An image file as a document; one of several pages (TIFF) has as many.
pub async fn read_image(
    original: Original<'_>,
    limits: &ExtractLimits,
) -> Result<ExtractedText, ExtractError> {
    let Original {
        bytes, filename, ..
    } = original;
    let found = format::image(&bytes).unwrap_or("an image");
    let recognizer = match &limits.recognition {
        Recognition::With(recognizer) => recognizer,
        Recognition::Unavailable(reason) => {
            return Err(ExtractError::NeedsRecognition {
                filename: filename.to_owned(),
                found,
                reason: reason.clone(),
            });
        }
    };
    let format = Format::Image;
    let pages = recognizer
        .read(&bytes, None, true, &limits.program)
        .await
        .map_err(|reason| ExtractError::Invalid { format, reason })?;
    let mut document = ExtractedText {
        format,
        title: None,
        text: String::new(),
        pages: Vec::new(),
        headings: Vec::new(),
    };
    let mut failure = None;
    for (number, page) in (1..).zip(pages) {
        if !document.text.is_empty() {
            document.text.push_str("\n\n");
        }
        let start = document.text.len();
        let outcome = match kept(vec![page]) {
            Ok(RecognisedText { text, confidence }) => {
                document.text.push_str(&text);
                PageOutcome::Recognised { confidence }
            }
            Err(reason) => {
                document.text.truncate(document.text.trim_end().len());
                failure = Some(reason.clone());
                PageOutcome::Scanned(reason)
            }
        };
        let start = start.min(document.text.len());
        document.pages.push(PageSpan {
            number,
            span: start..document.text.len(),
            outcome,
        });
    }
    if document.text.is_empty() {
        let reason = failure.unwrap_or_else(|| "no words were recognised in it".to_owned());
        return Err(ExtractError::NoText { format, reason });
    }
    Ok(document)
}
