//! Opens a PDF: mends a broken cross-reference table, tries the empty and the given password, finds pages and title. A page tree
//! may be a loop or a bomb; what comes out is a bounded list.

use std::collections::HashSet;

use pdf_extract::encryption::DecryptionError;
use pdf_extract::{Dictionary, Document, Error, LoadOptions, Object, ObjectId};

use super::super::protocol::Refusal;
use super::font::get;
use super::{mend, owner};

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
    let document = load_with(bytes, LoadOptions::default())?;
    if !document.trailer.has(b"Encrypt") {
        return Ok(document);
    }
    let mut document = load_as_it_is(bytes)?;
    match (unlock(&mut document, password), password) {
        (Ok(()), _) => Ok(document),
        // Object by object, what cannot be decrypted may be left out.
        (Err(Refusal::Encrypted), Some(password)) => {
            let document = load_with(bytes, LoadOptions::with_password(password));
            document.map_err(|_| Refusal::Encrypted)
        }
        (Err(refusal), _) => Err(refusal),
    }
}

fn load_with(bytes: &[u8], options: LoadOptions) -> Result<Document, Refusal> {
    match Document::load_mem_with_options(bytes, options) {
        Ok(document) => Ok(document),
        Err(Error::InvalidPassword) => Err(Refusal::WrongPassword),
        Err(Error::Decryption(_) | Error::UnsupportedSecurityHandler(_)) => Err(Refusal::Encrypted),
        Err(error) => {
            let reason = format!("its structure is damaged, and no page is found in it ({error})");
            Err(Refusal::Invalid(reason))
        }
    }
}

/// All objects of an encrypted document, still encrypted: lopdf loads none without a password that it knows how to use, and
/// drops streams of objects that it cannot unpack, so it is not shown which is which.
fn load_as_it_is(bytes: &[u8]) -> Result<Document, Refusal> {
    let mut hidden = bytes.to_vec();
    hide(&mut hidden, b"/Encrypt");
    hide(&mut hidden, b"/ObjStm");
    let mut document = load_with(&hidden, LoadOptions::default())?;
    for object in document.objects.values_mut() {
        if let Ok(stream) = object.as_stream_mut()
            && stream.dict.has_type(b"ObjSt_")
        {
            stream.dict.set("Type", Object::Name(b"ObjStm".to_vec()));
        }
    }
    if let Some(encryption) = document.trailer.remove(b"Encryp_") {
        // The dictionary may stand in the trailer itself.
        let reference = match encryption {
            Object::Dictionary(_) => Object::Reference(document.add_object(encryption)),
            reference => reference,
        };
        document.trailer.set("Encrypt", reference);
    }
    Ok(document)
}

/// Writes another last letter to a name wherever it stands, so that all offsets hold.
fn hide(bytes: &mut [u8], name: &[u8]) {
    let mut from = 0;
    while let Some(at) = bytes[from..].windows(name.len()).position(|it| it == name) {
        from += at + name.len();
        // Not `/EncryptMetadata`.
        if !bytes.get(from).is_some_and(u8::is_ascii_alphanumeric) {
            bytes[from - 1] = b'_';
        }
    }
}

/// Decrypts all of a document that was loaded as it is.
fn unlock(document: &mut Document, password: Option<&str>) -> Result<(), Refusal> {
    for word in [Some(""), password].into_iter().flatten() {
        // The owner's first: lopdf lets it in, but then takes it for the user's.
        let opened = match owner::user_password(document, word) {
            Some(user_password) => document.decrypt_raw(user_password),
            // As the standard has it, then as programs do that have not read it.
            None => document
                .decrypt(word)
                .or_else(|_| document.decrypt_raw(word)),
        };
        match opened {
            Ok(()) => return Ok(()),
            Err(Error::Decryption(DecryptionError::IncorrectPassword)) => {}
            Err(_) => return Err(Refusal::Encrypted),
        }
    }
    Err(match password {
        Some(_) => Refusal::WrongPassword,
        None => Refusal::NeedsPassword,
    })
}
