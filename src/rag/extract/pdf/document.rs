//! Opens a PDF: mends a broken cross-reference table, tries the empty password, finds pages and title. A page tree
//! may be a loop or a bomb; what comes out is a bounded list.

use std::collections::HashSet;

use pdf_extract::{Dictionary, Document, Object, ObjectId};

use super::font::get;
use super::protocol::Refusal;

/// More pages than any book has; a page tree can name one page a million times.
const MAX_PAGES: usize = 50_000;

pub fn open(bytes: &[u8]) -> Result<Document, Refusal> {
    match load(bytes) {
        Ok(document) if !pages(&document).is_empty() => Ok(document),
        Err(Refusal::Encrypted) => Err(Refusal::Encrypted),
        first => match load(&with_new_xref(bytes)) {
            Ok(document) if !pages(&document).is_empty() => Ok(document),
            Err(Refusal::Encrypted) => Err(Refusal::Encrypted),
            _ => Err(first
                .err()
                .unwrap_or_else(|| Refusal::Invalid("it has no pages".to_owned()))),
        },
    }
}

/// The page objects in reading order.
pub fn pages(document: &Document) -> Vec<ObjectId> {
    let root = document
        .catalog()
        .ok()
        .and_then(|catalog| catalog.get(b"Pages").ok()?.as_reference().ok());
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut waiting: Vec<ObjectId> = root.into_iter().collect();
    while let Some(id) = waiting.pop() {
        let Ok(node) = document.get_dictionary(id) else {
            continue;
        };
        match get(document, node, b"Kids").and_then(|kids| kids.as_array().ok()) {
            // A node that was seen is a loop.
            Some(kids) => {
                if seen.insert(id) {
                    waiting.extend(kids.iter().rev().filter_map(|kid| kid.as_reference().ok()));
                }
            }
            None if node.has(b"Contents") || node.has(b"MediaBox") || node.has_type(b"Page") => {
                found.push(id)
            }
            None => {}
        }
        if found.len() == MAX_PAGES {
            break;
        }
    }
    if found.is_empty() {
        let is_page = |object: &Object| {
            object
                .as_dict()
                .is_ok_and(|object| object.has_type(b"Page"))
        };
        found = document
            .objects
            .iter()
            .filter(|(_, object)| is_page(object))
            .map(|(id, _)| *id)
            .collect();
        found.truncate(MAX_PAGES);
    }
    found
}

pub fn title(document: &Document) -> Option<String> {
    let information: &Dictionary = get(document, &document.trailer, b"Info")?.as_dict().ok()?;
    let title = pdf_extract::decode_text_string(get(document, information, b"Title")?).ok()?;
    let title = title
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    let title = title.collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then_some(title)
}

fn load(bytes: &[u8]) -> Result<Document, Refusal> {
    use pdf_extract::Error;
    let invalid = |error: Error| Refusal::Invalid(error.to_string());
    let mut document = match Document::load_mem(bytes) {
        Err(
            Error::InvalidPassword | Error::Decryption(_) | Error::UnsupportedSecurityHandler(_),
        ) => {
            return Err(Refusal::Encrypted);
        }
        other => other.map_err(invalid)?,
    };
    if document.is_encrypted() && document.decrypt("").is_err() {
        return Err(Refusal::Encrypted);
    }
    Ok(document)
}

/// The file with a cross-reference table made anew from the objects that are really there.
fn with_new_xref(bytes: &[u8]) -> Vec<u8> {
    let start = bytes
        .windows(5)
        .position(|window| window == b"%PDF-")
        .unwrap_or(0);
    let bytes = &bytes[start..];
    let mut objects = objects(bytes);
    // A later object with the same number replaces an earlier one.
    objects.sort_by_key(|object| object.number);
    objects.reverse();
    objects.dedup_by_key(|object| object.number);
    objects.reverse();

    let mut mended = bytes.to_vec();
    mended.push(b'\n');
    let xref = mended.len();
    mended.extend_from_slice(b"xref\n");
    for object in &objects {
        let entry = format!(
            "{} 1\n{:010} {:05} n \n",
            object.number, object.offset, object.generation
        );
        mended.extend_from_slice(entry.as_bytes());
    }
    let size = objects
        .iter()
        .map(|object| object.number + 1)
        .max()
        .unwrap_or(0);
    let mut trailer = format!("trailer\n<< /Size {size}");
    for key in ["Root", "Info", "Encrypt"] {
        if let Some((number, generation)) = last_reference(bytes, key) {
            trailer += &format!(" /{key} {number} {generation} R");
        } else if key == "Root"
            && let Some(catalog) = objects.iter().rev().find(|object| object.is_catalog)
        {
            trailer += &format!(" /Root {} {} R", catalog.number, catalog.generation);
        }
    }
    if let Some(id) = file_id(bytes) {
        trailer += " /ID ";
        mended.extend_from_slice(trailer.as_bytes());
        mended.extend_from_slice(id);
        trailer.clear();
    }
    mended.extend_from_slice(trailer.as_bytes());
    mended.extend_from_slice(format!(" >>\nstartxref\n{xref}\n%%EOF\n").as_bytes());
    mended
}

struct FoundObject {
    number: u32,
    generation: u16,
    offset: usize,
    is_catalog: bool,
}

/// Every `12 0 obj`.
fn objects(bytes: &[u8]) -> Vec<FoundObject> {
    const HEAD: usize = 256;
    let mut found = Vec::new();
    for at in positions(bytes, b"obj") {
        if bytes[..at].ends_with(b"end") {
            continue;
        }
        let mut before = Backwards { bytes, at };
        let Some((generation, _)) = before
            .number()
            .filter(|(generation, _)| *generation <= u32::from(u16::MAX))
        else {
            continue;
        };
        let Some((number, offset)) = before.number().filter(|(number, _)| *number < 10_000_000)
        else {
            continue;
        };
        let body = &bytes[at..bytes.len().min(at + HEAD)];
        let end = positions(body, b"endobj").next().unwrap_or(body.len());
        let is_catalog = positions(&body[..end], b"/Catalog").next().is_some();
        found.push(FoundObject {
            number,
            generation: generation as u16,
            offset,
            is_catalog,
        });
    }
    found
}

/// Reads numbers towards the beginning.
struct Backwards<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Backwards<'_> {
    /// The number before white space, and where it begins.
    fn number(&mut self) -> Option<(u32, usize)> {
        while self.at > 0 && self.bytes[self.at - 1].is_ascii_whitespace() {
            self.at -= 1;
        }
        let end = self.at;
        while self.at > 0 && self.bytes[self.at - 1].is_ascii_digit() && end - self.at < 10 {
            self.at -= 1;
        }
        let number = std::str::from_utf8(&self.bytes[self.at..end])
            .ok()?
            .parse()
            .ok()?;
        Some((number, self.at))
    }
}

/// The last `/key 12 0 R`.
fn last_reference(bytes: &[u8], key: &str) -> Option<(u32, u16)> {
    let key = format!("/{key}");
    positions(bytes, key.as_bytes())
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .find_map(|at| {
            let rest = &bytes[at + key.len()..bytes.len().min(at + key.len() + 32)];
            let rest = String::from_utf8_lossy(rest);
            let mut words = rest.split_whitespace();
            let reference = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            words.next()?.starts_with('R').then_some(reference)
        })
}

/// The value of `/ID`, which decryption needs.
fn file_id(bytes: &[u8]) -> Option<&[u8]> {
    const MAX_LEN: usize = 512;
    let at =
        positions(bytes, b"/ID").find(|at| bytes[at + 3..].trim_ascii_start().starts_with(b"["))?;
    let rest = &bytes[at + 3..bytes.len().min(at + MAX_LEN)];
    rest.iter()
        .position(|byte| *byte == b']')
        .map(|end| &rest[..=end])
}

fn positions<'a>(bytes: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    bytes
        .windows(needle.len())
        .enumerate()
        .filter(move |(_, window)| *window == needle)
        .map(|(at, _)| at)
}
