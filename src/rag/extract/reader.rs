//! Opens a file of a known format for reading part by part. Runs in the child process only: what it calls may panic,
//! never end or need any amount of memory.

use std::cell::Cell;
use std::rc::Rc;

use super::protocol::{PageContent, Refusal, listed};
use super::{
    ExtractError, ExtractedText, Format, delimited, email, epub, format, html, json, markdown,
    notebook, odf, office, pdf, rtf, text, zipped,
};

pub trait Reader {
    fn num_pages(&self) -> u32;

    fn title(&self) -> Option<String>;

    /// What stands on a page, counted from 1.
    fn page(&mut self, number: u32) -> Result<PageContent, String>;
}

/// What all archives of one file together may still unpack, how deep files may still stand in files, and what opens those
/// that are encrypted. Not `Debug`: a password is never logged.
#[derive(Clone)]
pub struct Budget {
    unpacked_left: Rc<Cell<u64>>,
    depth_left: usize,
    password: Option<Rc<str>>,
}

impl Default for Budget {
    fn default() -> Self {
        const MAX_UNPACKED_BYTES: u64 = 1 << 30;
        const MAX_DEPTH: usize = 4;
        Self {
            unpacked_left: Rc::new(Cell::new(MAX_UNPACKED_BYTES)),
            depth_left: MAX_DEPTH,
            password: None,
        }
    }
}

impl Budget {
    /// The same budget for a file whose members may need a password.
    fn with_password(&self, password: Option<&str>) -> Self {
        Self {
            password: password.map(Rc::from),
            ..self.clone()
        }
    }

    pub fn left(&self) -> u64 {
        self.unpacked_left.get()
    }

    pub fn spend(&self, num_bytes: u64) {
        self.unpacked_left
            .set(self.unpacked_left.get().saturating_sub(num_bytes));
    }

    /// The same budget, one file deeper.
    fn inside(&self) -> Option<Self> {
        Some(Self {
            unpacked_left: Rc::clone(&self.unpacked_left),
            depth_left: self.depth_left.checked_sub(1)?,
            password: self.password.clone(),
        })
    }
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Self::Invalid(reason)
    }
}

/// A file of a known format.
pub struct Source<'a> {
    pub format: Format,
    pub bytes: Vec<u8>,
    pub filename: &'a str,
    pub password: Option<&'a str>,
    /// Somebody will recognise the words of scanned pages.
    pub wants_scans: bool,
}

pub fn open(source: Source<'_>, budget: &Budget) -> Result<Box<dyn Reader>, Refusal> {
    let Source {
        format,
        bytes,
        filename,
        password,
        wants_scans,
    } = source;
    let budget = &budget.with_password(password);
    Ok(match format {
        Format::Pdf => Box::new(pdf::PdfReader::open(bytes, password, wants_scans)?),
        Format::Image => {
            let found = format::image(&bytes).unwrap_or("an image");
            return Err(Refusal::Invalid(format!(
                "{filename:?} is {found}; images inside of other files are not read"
            )));
        }
        Format::Docx => Box::new(office::docx::open(bytes, budget)?),
        Format::Pptx => Box::new(office::pptx::Presentation::open(bytes, budget)?),
        Format::Xlsx => Box::new(office::xlsx::Workbook::open(bytes, budget)?),
        Format::Odt | Format::Ods | Format::Odp => Box::new(odf::open(bytes, budget)?),
        Format::Epub => Box::new(epub::Book::open(bytes, budget)?),
        Format::Email => Box::new(email::Mail::open(&bytes, budget)?),
        Format::Zip => Box::new(zipped::Members::open(bytes, budget)?),
        Format::Csv => Box::new(delimited::open(&bytes, filename)?),
        Format::Json => Box::new(json::open(&bytes)?),
        Format::JsonLines => Box::new(json::open_lines(&bytes)?),
        Format::Notebook => Box::new(notebook::open(&bytes)?),
        Format::Rtf => Box::new(rtf::open(&bytes)?),
        Format::Html => Box::new(Whole::from(
            html::extract(&bytes).map_err(|error| Refusal::Invalid(error.to_string()))?,
        )),
        Format::Markdown => Box::new(Whole::from(markdown::extract(text::decode(&bytes)))),
        Format::Text => Box::new(Whole::new(
            None,
            PageContent {
                text: text::decode(&bytes),
                ..PageContent::default()
            },
        )),
    })
}

/// A document that is read in one go.
#[derive(Debug)]
pub struct Whole {
    title: Option<String>,
    content: PageContent,
}

impl Whole {
    pub fn new(title: Option<String>, content: PageContent) -> Self {
        Self { title, content }
    }
}

impl From<ExtractedText> for Whole {
    fn from(document: ExtractedText) -> Self {
        let content = PageContent {
            text: document.text,
            headings: document.headings,
            ..PageContent::default()
        };
        Self::new(document.title, content)
    }
}

impl Reader for Whole {
    fn num_pages(&self) -> u32 {
        1
    }

    fn title(&self) -> Option<String> {
        self.title.clone()
    }

    fn page(&mut self, _number: u32) -> Result<PageContent, String> {
        Ok(std::mem::take(&mut self.content))
    }
}

/// The text of a file that stands in another: in an archive, or attached to an e-mail. Its parts are no pages, so what is
/// said of one that cannot be read goes up to the page that has the file.
pub fn read_inner(bytes: Vec<u8>, filename: &str, budget: &Budget) -> Result<PageContent, String> {
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    let Some(budget) = budget.inside() else {
        return Err("it stands in too many files inside one another".to_owned());
    };
    let format = format::detect(&bytes, filename).map_err(|error| match error {
        // What is supported is too long a list to stand at each member.
        ExtractError::UnsupportedFormat { found, .. } => {
            format!("{filename:?} is {found}, which is not supported")
        }
        ExtractError::Encrypted => "it is encrypted".to_owned(),
        other => other.to_string(),
    })?;
    let source = Source {
        format,
        bytes,
        filename,
        password: budget.password.as_deref(),
        wants_scans: false,
    };
    let mut reader = open(source, &budget).map_err(|refusal| match refusal {
        Refusal::Encrypted => "it is encrypted".to_owned(),
        Refusal::NeedsPassword => {
            "it needs a password; attach the outer file again with 'password' (or inglenook ingest --password)"
                .to_owned()
        }
        Refusal::WrongPassword => "the given password does not open it".to_owned(),
        Refusal::Invalid(reason) | Refusal::NoText(reason) => reason,
    })?;
    let mut all = PageContent::default();
    for number in 1..=reader.num_pages() {
        match reader.page(number) {
            Ok(content) => add(&mut all, content),
            Err(reason) if reader.num_pages() == 1 => return Err(reason),
            Err(reason) => all.unread.push(format!(
                "part {number} of {filename:?} could not be read: {reason}"
            )),
        }
    }
    match all.text.trim().is_empty() {
        true if all.unread.is_empty() => Err("there are no words in it".to_owned()),
        true => Err(listed(&all.unread)),
        false => Ok(all),
    }
}

/// Adds a page without saying where it begins: the pages inside of a member are not pages of the archive.
fn add(all: &mut PageContent, page: PageContent) {
    all.unread.extend(page.unread);
    if page.text.is_empty() {
        return;
    }
    if !all.text.is_empty() {
        all.text.push_str("\n\n");
    }
    let start = all.text.len();
    all.text.push_str(&page.text);
    all.headings
        .extend(page.headings.into_iter().map(|mut heading| {
            heading.offset += start;
            heading
        }));
}
