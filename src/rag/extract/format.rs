//! Decides what a file is: by its content first, by its name second. Never guesses: what is not known to be
//! readable is refused by the name of what it is.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::container::{self, Content};
use super::{ExtractError, text};

/// The formats that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    Pdf,
    Docx,
    Pptx,
    Xlsx,
    Odt,
    Ods,
    Odp,
    Epub,
    Rtf,
    Email,
    Html,
    Markdown,
    Csv,
    Json,
    JsonLines,
    Notebook,
    Zip,
    /// A picture of text, for recognition.
    Image,
    Text,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pdf => "PDF",
            Self::Docx => "Word document",
            Self::Pptx => "PowerPoint presentation",
            Self::Xlsx => "Excel workbook",
            Self::Odt => "OpenDocument text",
            Self::Ods => "OpenDocument spreadsheet",
            Self::Odp => "OpenDocument presentation",
            Self::Epub => "EPUB book",
            Self::Rtf => "RTF document",
            Self::Email => "e-mail",
            Self::Html => "HTML page",
            Self::Markdown => "Markdown file",
            Self::Csv => "CSV table",
            Self::Json => "JSON file",
            Self::JsonLines => "JSON lines file",
            Self::Notebook => "Jupyter notebook",
            Self::Zip => "ZIP archive",
            Self::Image => "image",
            Self::Text => "text file",
        })
    }
}

/// The supported formats, for messages.
pub const SUPPORTED: &str = "PDF, Word (DOCX), PowerPoint (PPTX), Excel (XLSX), OpenDocument (ODT, ODS, ODP), EPUB, \
                             RTF, e-mail (EML), HTML, Markdown, CSV, JSON, Jupyter notebooks, plain text (also source \
                             code and logs), ZIP archives of these, and images (PNG, JPEG, TIFF, WebP, BMP) where \
                             tesseract is installed";

/// What can be done with a file of a kind that is not read, by what the kind is called.
const ADVICE: [(&str, &str); 16] = [
    (
        "Office document",
        "save it anew as DOCX, XLSX or PPTX, without a password",
    ),
    ("Word", "save it as DOCX"),
    ("Excel", "save it as XLSX"),
    ("PowerPoint", "save it as PPTX"),
    ("Outlook", "save it as EML"),
    ("iWork", "export it as PDF"),
    ("Visio", "export it as PDF"),
    ("PostScript", "convert it to PDF"),
    ("Kindle", "convert it to EPUB"),
    ("archive", "unpack it, or pack its files as ZIP"),
    (
        "MP4 or HEIC",
        "save a picture as JPEG; of a film, upload a transcript",
    ),
    ("image", "save it as PNG or JPEG"),
    ("recording", "upload a transcript of it"),
    ("film", "upload a transcript of it"),
    ("Parquet", "export it as CSV"),
    ("SQLite", "export its tables as CSV"),
];

/// What to do with a file that is `found` and cannot be read.
pub fn advice(found: &str) -> String {
    known_advice(found).map_or_else(|| format!("supported: {SUPPORTED}"), str::to_owned)
}

/// As [`advice`], where it is about this very kind of file.
pub fn known_advice(found: &str) -> Option<&'static str> {
    let known = ADVICE.iter().find(|(kind, _)| found.contains(kind));
    known.map(|(_, advice)| *advice)
}

/// What `bytes` named `filename` is, or the refusal that names it.
pub fn detect(bytes: &[u8], filename: &str) -> Result<Format, ExtractError> {
    let extension = extension(filename);
    let extension = extension.as_str();
    let refuse = |found: &str| {
        let filename = filename.to_owned();
        Err(ExtractError::UnsupportedFormat {
            filename,
            found: found.to_owned(),
        })
    };

    let contained = if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        Some(container::of_zip(bytes, extension))
    } else if bytes.starts_with(OLE_SIGNATURE) {
        Some(container::of_ole(bytes))
    } else {
        None
    };
    match contained {
        Some(Content::Known(format)) => return Ok(format),
        Some(Content::Encrypted) => return Err(ExtractError::Encrypted),
        Some(Content::Unsupported(found)) => return refuse(found),
        None => {}
    }
    if image(bytes).is_some() {
        return Ok(Format::Image);
    }
    if let Some(found) = known_binary(bytes) {
        return refuse(found);
    }
    if bytes.starts_with(b"{\\rtf") {
        return Ok(Format::Rtf);
    }
    if is_pdf(bytes, extension) {
        return Ok(Format::Pdf);
    }
    let is_binary = text::is_binary(bytes);
    if extension == "pdf" && (is_binary || !looks_like_html(bytes)) {
        let reason = "it has no %PDF header at its beginning".to_owned();
        return Err(ExtractError::Invalid {
            format: Format::Pdf,
            reason,
        });
    }
    if let Some(format) = container::named(extension)
        && (is_binary || !looks_like_html(bytes))
    {
        let reason = "it does not begin as a ZIP container does".to_owned();
        return Err(ExtractError::Invalid { format, reason });
    }
    if is_binary {
        return refuse(named_by(extension).unwrap_or("a binary file of an unknown kind"));
    }
    match extension {
        "md" | "markdown" | "mdown" | "mkd" => return Ok(Format::Markdown),
        "html" | "htm" | "xhtml" => return Ok(Format::Html),
        "csv" | "tsv" | "tab" => return Ok(Format::Csv),
        "json" | "geojson" | "jsonld" => return Ok(Format::Json),
        "jsonl" | "ndjson" => return Ok(Format::JsonLines),
        "ipynb" => return Ok(Format::Notebook),
        "eml" | "mht" | "mhtml" => return Ok(Format::Email),
        _ => {}
    }
    if matches!(
        extension,
        "" | "pdf" | "txt" | "doc" | "docx" | "xls" | "xlsx" | "asp" | "aspx" | "jsp" | "cgi"
    ) && looks_like_html(bytes)
    {
        return Ok(Format::Html);
    }
    if matches!(extension, "" | "txt") && looks_like_mail(bytes) {
        return Ok(Format::Email);
    }
    match named_by(extension) {
        Some(found) => refuse(found),
        None => Ok(Format::Text),
    }
}

fn extension(filename: &str) -> String {
    let name = filename.rsplit(['/', '\\']).next().unwrap_or(filename);
    name.rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase())
        .unwrap_or_default()
}

/// The header may stand anywhere in the first 1,024 bytes (ISO 32000-1, annex H), but a text that only mentions it
/// there is a text.
fn is_pdf(bytes: &[u8], extension: &str) -> bool {
    let head = &bytes[..bytes.len().min(1024)];
    match head.windows(5).position(|window| window == b"%PDF-") {
        None => false,
        Some(at) => {
            extension == "pdf"
                || head[..at]
                    .iter()
                    .all(|byte| byte.is_ascii_whitespace() || !byte.is_ascii())
                || text::is_binary(bytes)
        }
    }
}

fn looks_like_html(bytes: &[u8]) -> bool {
    let head = text::decode(&bytes[..bytes.len().min(2048)]);
    let mut head = head.trim_start();
    loop {
        let skipped = if head.starts_with("<!--") {
            head.split_once("-->").map(|(_, rest)| rest)
        } else if head.starts_with("<?xml") {
            head.split_once("?>").map(|(_, rest)| rest)
        } else {
            None
        };
        match skipped {
            Some(rest) => head = rest.trim_start(),
            None => break,
        }
    }
    let head: String = head
        .chars()
        .take(14)
        .collect::<String>()
        .to_ascii_lowercase();
    head.starts_with("<!doctype html") || head.starts_with("<html")
}

/// A text that begins with the headers that every e-mail has, and that says how its body is written.
fn looks_like_mail(bytes: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(16 << 10)]).to_ascii_lowercase();
    let headers: Vec<&str> = head.lines().take_while(|line| !line.is_empty()).collect();
    let has = |name: &str| headers.iter().any(|line| line.starts_with(name));
    let is_header = |line: &&str| line.starts_with([' ', '\t']) || line.contains(':');
    headers.iter().all(is_header)
        && has("from:")
        && (has("mime-version:") || has("received:"))
        && (has("date:") || has("message-id:"))
}

const OLE_SIGNATURE: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";

/// Signatures at the start of a file. Those that are also plausible text stand in `BINARY_SIGNATURES`.
const SIGNATURES: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"%!PS", "a PostScript document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xfd7zXZ\0", "an XZ archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"\x7fELF", "a program (ELF)"),
    (b"\xca\xfe\xba\xbe", "a program (Java class or Mach-O)"),
    (b"\xcf\xfa\xed\xfe", "a program (Mach-O)"),
    (b"\0asm", "a program (WebAssembly)"),
    (b"SQLite format 3\0", "a SQLite database"),
    (b"OggS", "an Ogg recording"),
    (b"fLaC", "a FLAC recording"),
    (b"ID3\x03", "an MP3 recording"),
    (b"ID3\x04", "an MP3 recording"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM film"),
];

/// Signatures that count only in a file that is no text.
const BINARY_SIGNATURES: &[(&[u8], &str)] = &[
    (b"BM", "a BMP image"),
    (b"MZ", "a program (Windows)"),
    (b"BZh", "a bzip2 archive"),
    (b"PAR1", "a Parquet table"),
    (b"GGUF", "a model file (GGUF)"),
    (b"\0\0\x01\0", "an icon"),
];

/// Which kind of image that recognition reads, named for messages.
pub fn image(bytes: &[u8]) -> Option<&'static str> {
    const READ: [&str; 5] = [
        "a PNG image",
        "a JPEG image",
        "a TIFF image",
        "a WebP image",
        "a BMP image",
    ];
    known_binary(bytes).filter(|found| READ.contains(found))
}

fn known_binary(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"RIFF") && bytes.len() >= 12 {
        match &bytes[8..12] {
            b"WEBP" => return Some("a WebP image"),
            b"WAVE" => return Some("a WAV recording"),
            b"AVI " => return Some("an AVI film"),
            _ => {}
        }
    }
    if bytes.get(4..8) == Some(b"ftyp") {
        return Some("an MP4 or HEIC file");
    }
    let signed = |signatures: &[(&[u8], &'static str)]| {
        signatures
            .iter()
            .find(|(signature, _)| bytes.starts_with(signature))
            .map(|(_, name)| *name)
    };
    signed(SIGNATURES).or_else(|| {
        if text::is_binary(bytes) {
            signed(BINARY_SIGNATURES)
        } else {
            None
        }
    })
}

/// Kinds that a name announces and that are refused even when the content says nothing.
fn named_by(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "doc" | "dot" => "an old Word document (DOC)",
        "ppt" | "pps" => "an old PowerPoint presentation (PPT)",
        "xls" | "xlsb" => "an old or binary Excel workbook (XLS, XLSB)",
        "msg" => "an Outlook message (MSG)",
        "mobi" | "azw3" => "a Kindle book",
        "pages" | "numbers" | "key" => "an iWork document",
        "png" | "jpg" | "jpeg" | "gif" | "webp" | "bmp" | "tif" | "tiff" | "heic" | "ico" => {
            "an image"
        }
        "mp3" | "wav" | "ogg" | "flac" | "m4a" => "a recording",
        "mp4" | "mov" | "avi" | "mkv" | "webm" => "a film",
        "gz" | "tgz" | "bz2" | "xz" | "7z" | "rar" | "tar" | "zst" => "an archive",
        "exe" | "dll" | "so" | "dylib" | "class" | "wasm" => "a program",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(bytes: &[u8], filename: &str) -> String {
        detect(bytes, filename).expect_err("refused").to_string()
    }

    #[test]
    fn content_is_believed_before_the_name() {
        assert!(refusal(b"GIF89a....", "report.pdf").contains("\"report.pdf\" is a GIF image"));
        assert_eq!(
            detect(b"\x89PNG\r\n\x1a\n....", "report.pdf"),
            Ok(Format::Image)
        );
        assert_eq!(detect(b"%PDF-1.4\n", "notes.txt"), Ok(Format::Pdf));
        assert_eq!(
            detect(b"\n<!-- hi --><!DOCTYPE HTML><p>x", "page"),
            Ok(Format::Html)
        );
        assert_eq!(detect(b"<html><p>x", "report.pdf"), Ok(Format::Html));
        assert_eq!(
            detect(b"PK\x03\x04..........word/document.xml", "a.pdf"),
            Ok(Format::Docx)
        );
        assert_eq!(detect(b"{\\rtf1 words}", "a.doc"), Ok(Format::Rtf));
    }

    #[test]
    fn a_text_that_mentions_pdf_stays_a_text() {
        assert_eq!(
            detect(b"The header is %PDF-1.4.", "pdf-format.md"),
            Ok(Format::Markdown)
        );
        assert_eq!(detect(b"junk before %PDF-1.4", "a.pdf"), Ok(Format::Pdf));
    }

    #[test]
    fn the_name_decides_between_text_formats() {
        assert_eq!(detect(b"# Title", "README.MD"), Ok(Format::Markdown));
        assert_eq!(detect(b"fn main() {}", "src/main.rs"), Ok(Format::Text));
        assert_eq!(detect(b"<p>fragment", "a.htm"), Ok(Format::Html));
        assert_eq!(detect(b"a,b", "A.CSV"), Ok(Format::Csv));
        assert_eq!(detect(b"{}", "a.ipynb"), Ok(Format::Notebook));
        let mail = b"Received: x\n by y\nFrom: a@b.c\nDate: now\n\nhi";
        assert_eq!(detect(mail, "saved"), Ok(Format::Email));
        assert_eq!(detect(b"From: here\nto there", "a.txt"), Ok(Format::Text));
        assert_eq!(detect(b"BMW is a car maker", "cars.txt"), Ok(Format::Text));
    }

    #[test]
    fn binary_is_refused_by_name() {
        assert!(refusal(b"\0\x01\x02\x03\x04\xfe\xfd\0\0", "data.dat").contains("unknown kind"));
        assert!(refusal(b"not really", "a.docx").contains("Word document cannot be read"));
        let old = refusal(b"\0\x01\x02", "a.doc");
        let expected = "is an old Word document (DOC), which is not supported; save it as DOCX";
        assert!(old.ends_with(expected), "{old}");
        let packed = refusal(b"\x1f\x8b\x08", "a.gz");
        assert!(packed.ends_with("or pack its files as ZIP"), "{packed}");
        let unknown = refusal(b"\x7fELF", "a");
        assert!(unknown.contains("supported: PDF, Word"), "{unknown}");
        assert_eq!(detect(b"<html><table>", "a.xls"), Ok(Format::Html));
        assert_eq!(
            detect(b"no header", "a.pdf").expect_err("invalid").code(),
            "invalid_file"
        );
    }
}
