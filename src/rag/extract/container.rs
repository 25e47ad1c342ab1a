//! Tells what a ZIP or OLE container holds: many formats are files in one of them.

use std::io::{Cursor, Read};

use aho_corasick::AhoCorasick;
use zip::ZipArchive;

use super::Format;
use super::archive::has_too_many_members;

/// What stands in a container.
#[derive(Debug, PartialEq)]
pub enum Content {
    Known(Format),
    Encrypted,
    /// Named for messages.
    Unsupported(&'static str),
}

/// The format of a ZIP file, by its members; by its name where they do not tell.
pub fn of_zip(bytes: &[u8], extension: &str) -> Content {
    if has_too_many_members(bytes) {
        return of_damaged_zip(bytes, extension);
    }
    let mut zip = match ZipArchive::new(Cursor::new(bytes)) {
        Ok(zip) => zip,
        Err(_) => return of_damaged_zip(bytes, extension),
    };
    if let Some(format) = declared(&mut zip) {
        return Content::Known(format);
    }
    let has = |wanted: &dyn Fn(&str) -> bool| {
        let names = zip.file_names_raw();
        names.into_iter().any(|name| {
            let name = String::from_utf8_lossy(name).replace('\\', "/");
            wanted(name.trim_start_matches('/'))
        })
    };
    let has_folder = |folder: &str| has(&|name| name.starts_with(folder));
    if has(&|name| name.eq_ignore_ascii_case("[Content_Types].xml")) {
        if has(&|name| name == "xl/workbook.bin") {
            return Content::Unsupported("an Excel binary workbook (XLSB)");
        }
        for (folder, format) in [
            ("word/", Format::Docx),
            ("ppt/", Format::Pptx),
            ("xl/", Format::Xlsx),
        ] {
            if has_folder(folder) {
                return Content::Known(format);
            }
        }
        if has_folder("visio/") {
            return Content::Unsupported("a Visio drawing");
        }
    }
    if has(&|name| name == "META-INF/container.xml") {
        return Content::Known(Format::Epub);
    }
    if has(&|name| name == "Index.zip" || name.starts_with("Index/Document.iwa")) {
        return Content::Unsupported("an iWork document");
    }
    Content::Known(named(extension).unwrap_or(Format::Zip))
}

/// The type that an OpenDocument file or a book says it is, in its first member.
fn declared(zip: &mut ZipArchive<Cursor<&[u8]>>) -> Option<Format> {
    let mut declared = String::new();
    let member = zip.by_name("mimetype").ok()?;
    member.take(100).read_to_string(&mut declared).ok()?;
    of_media_type(declared.trim())
}

fn of_media_type(media_type: &str) -> Option<Format> {
    if media_type == "application/epub+zip" {
        return Some(Format::Epub);
    }
    let kind = media_type.strip_prefix("application/vnd.oasis.opendocument.")?;
    match kind.trim_end_matches("-template") {
        "text" | "text-master" => Some(Format::Odt),
        "spreadsheet" => Some(Format::Ods),
        "presentation" => Some(Format::Odp),
        _ => None,
    }
}

/// Without a directory that can be read, a ZIP file cannot be either, but members' names stand before them too.
fn of_damaged_zip(bytes: &[u8], extension: &str) -> Content {
    let head = &bytes[..bytes.len().min(8 << 10)];
    let has = |name: &[u8]| head.windows(name.len()).any(|window| window == name);
    let found = if has(b"application/epub+zip") {
        Format::Epub
    } else if has(b"word/") {
        Format::Docx
    } else if has(b"ppt/") {
        Format::Pptx
    } else if has(b"xl/") {
        Format::Xlsx
    } else {
        named(extension).unwrap_or(Format::Zip)
    };
    Content::Known(found)
}

/// The format in a container that a name announces.
pub fn named(extension: &str) -> Option<Format> {
    Some(match extension {
        "zip" => Format::Zip,
        "docx" | "docm" | "dotx" | "dotm" => Format::Docx,
        "pptx" | "pptm" | "ppsx" | "potx" => Format::Pptx,
        "xlsx" | "xlsm" | "xltx" => Format::Xlsx,
        "odt" | "ott" => Format::Odt,
        "ods" | "ots" => Format::Ods,
        "odp" | "otp" => Format::Odp,
        "epub" => Format::Epub,
        _ => return None,
    })
}

/// Old Office files, Outlook's messages and encrypted new ones, told by the names of their streams.
pub fn of_ole(bytes: &[u8]) -> Content {
    const STREAMS: [(&str, Content); 5] = [
        ("EncryptedPackage", Content::Encrypted),
        (
            "WordDocument",
            Content::Unsupported("an old Word document (DOC)"),
        ),
        (
            "Workbook",
            Content::Unsupported("an old Excel workbook (XLS)"),
        ),
        (
            "PowerPoint Document",
            Content::Unsupported("an old PowerPoint presentation (PPT)"),
        ),
        (
            "__substg1.0_",
            Content::Unsupported("an Outlook message (MSG)"),
        ),
    ];
    let names = STREAMS.iter().map(|(name, _)| {
        let units = name.encode_utf16().flat_map(u16::to_le_bytes);
        units.collect::<Vec<u8>>()
    });
    let unknown = Content::Unsupported("an old or encrypted Office document (OLE)");
    let Ok(finder) = AhoCorasick::new(names) else {
        return unknown;
    };
    let found = finder
        .find_iter(bytes)
        .map(|found| found.pattern().as_usize());
    let found = found.min().and_then(|index| STREAMS.into_iter().nth(index));
    found.map_or(unknown, |(_, content)| content)
}

#[cfg(test)]
mod tests {
    use super::super::archive::tests::zip_of;
    use super::*;

    #[test]
    fn members_tell_the_format_and_the_name_helps() {
        let types = ("[Content_Types].xml", &b""[..]);
        let odt = b"application/vnd.oasis.opendocument.text";
        for (members, extension, expected) in [
            (
                vec![types, ("word/document.xml", &b""[..])],
                "zip",
                Format::Docx,
            ),
            (vec![types, ("xl/workbook.xml", b"")], "docx", Format::Xlsx),
            (vec![types], "docx", Format::Docx),
            (vec![("word/notes.txt", b"")], "zip", Format::Zip),
            (vec![("mimetype", odt)], "", Format::Odt),
            (
                vec![("mimetype", b"application/epub+zip")],
                "zip",
                Format::Epub,
            ),
            (vec![("report.docx", b"word/")], "zip", Format::Zip),
        ] {
            let zip = zip_of(&members);
            assert_eq!(
                of_zip(&zip, extension),
                Content::Known(expected),
                "{members:?}"
            );
        }
        let cut = &zip_of(&[types, ("word/document.xml", b"x")])[..120];
        assert_eq!(of_zip(cut, "zip"), Content::Known(Format::Docx));
    }

    #[test]
    fn old_office_files_are_told_apart() {
        let stream = |name: &str| {
            name.encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect::<Vec<_>>()
        };
        assert_eq!(of_ole(&stream("..EncryptedPackage")), Content::Encrypted);
        assert!(
            matches!(of_ole(&stream("Workbook")), Content::Unsupported(what) if what.contains("XLS"))
        );
        assert!(matches!(of_ole(b""), Content::Unsupported(what) if what.contains("OLE")));
    }
}
