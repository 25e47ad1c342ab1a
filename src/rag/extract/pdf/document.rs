//! Opens a PDF: mends a broken cross-reference table, tries the empty and the given password, finds pages and title. A page tree
//! may be a loop or a bomb; what comes out is a bounded list.

use std::collections::HashSet;

use pdf_extract::{Dictionary, Document, Object, ObjectId};

use super::super::protocol::Refusal;
use super::font::get;
use super::mend;

/// More pages than any book has; a page tree can name one page a million times.
const MAX_PAGES: usize = 50_000;

pub fn open(bytes: &[u8], password: Option<&str>) -> Result<Document, Refusal> {
    let first = load(bytes, password);
    if is_locked(&first) {
        return first;
    }
    let num_sound = first.as_ref().map_or(0, num_sound_pages);
    if num_sound > 0 && first.as_ref().is_ok_and(|it| num_sound == pages(it).len()) {
        return first;
    }
    match load(&mend::rewritten(bytes), password) {
        mended if is_locked(&mended) => mended,
        Ok(mended) if num_sound_pages(&mended) > num_sound => Ok(mended),
        mended => {
            let has_pages = |document: &Document| !pages(document).is_empty();
            let none = || Refusal::Invalid("it has no pages".to_owned());
            match first {
                Ok(document) if has_pages(&document) => Ok(document),
                first => mended
                    .ok()
                    .filter(has_pages)
                    .ok_or_else(|| first.err().unwrap_or_else(none)),
            }
        }
    }
}

/// How many pages have all the content that they name.
fn num_sound_pages(document: &Document) -> usize {
    let is_there = |content: &Object| {
        let content = document
            .dereference(content)
            .ok()
            .and_then(|(_, it)| it.as_stream().ok());
        content.is_some_and(|content| !content.content.is_empty())
    };
    let is_sound = |page: &ObjectId| {
        let Ok(page) = document.get_dictionary(*page) else {
            return false;
        };
        match page.get(b"Contents") {
            Err(_) => true,
            Ok(contents) => match document.dereference(contents) {
                Ok((_, Object::Array(parts))) => parts.iter().all(is_there),
                _ => is_there(contents),
            },
        }
    };
    pages(document).iter().filter(|page| is_sound(page)).count()
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
        let kids = get(document, node, b"Kids").and_then(|kids| kids.as_array().ok());
        let is_page = node.has(b"Contents") || node.has(b"MediaBox") || node.has_type(b"Page");
        if let Some(kids) = kids {
            // A node that was seen is a loop.
            if seen.insert(id) {
                waiting.extend(kids.iter().rev().filter_map(|kid| kid.as_reference().ok()));
            }
        } else if is_page {
            found.push(id);
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
    // What programs write when nobody gave a title.
    let title = title
        .strip_prefix("Microsoft Word - ")
        .unwrap_or(&title)
        .trim();
    let is_meant = !title.is_empty() && !title.eq_ignore_ascii_case("untitled");
    is_meant.then(|| title.to_owned())
}

/// Nothing else helps but a password, or another program.
fn is_locked(opened: &Result<Document, Refusal>) -> bool {
    matches!(
        opened,
        Err(Refusal::Encrypted | Refusal::NeedsPassword | Refusal::WrongPassword)
    )
}

/// Documents that need no password to be read are opened with the empty one.
fn load(bytes: &[u8], password: Option<&str>) -> Result<Document, Refusal> {
    use pdf_extract::{Error, LoadOptions};
    let locked = match password {
        Some(_) => Refusal::WrongPassword,
        None => Refusal::NeedsPassword,
    };
    let options = password.map_or_else(LoadOptions::default, LoadOptions::with_password);
    let mut document = match Document::load_mem_with_options(bytes, options) {
        Ok(document) => document,
        Err(Error::InvalidPassword) => return Err(locked),
        Err(Error::Decryption(_) | Error::UnsupportedSecurityHandler(_)) => {
            return Err(Refusal::Encrypted);
        }
        Err(error) => return Err(Refusal::Invalid(error.to_string())),
    };
    if !document.is_encrypted() {
        return Ok(document);
    }
    let is_open = document.decrypt("").is_ok()
        || password.is_some_and(|password| document.decrypt(password).is_ok());
    match is_open {
        true => Ok(document),
        false => Err(locked),
    }
}
