//! A font of the document as reading needs it: from the bytes of a shown string to text and widths. A font that is
//! broken in part is used as far as it goes.

use std::collections::HashMap;

use encoding_rs::Encoding;
use pdf_extract::{Dictionary, Document, Object};

use super::cmap::CMap;
use super::encoding::{Base, Encodings, Table};
use super::streams;

/// One character code of a shown string.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Empty if the font does not say what the code means.
    pub text: String,
    /// How far it moves the pen, in units of the font size.
    pub advance: f64,
    /// Whether word spacing applies: only to the single byte 32.
    pub is_word_space: bool,
}

pub struct Font {
    kind: Kind,
    to_unicode: Option<CMap>,
}

enum Kind {
    Simple(Table),
    Composite {
        encoding: Composite,
        widths: HashMap<u32, f64>,
        default_width: f64,
        is_vertical: bool,
    },
}

/// How the codes of a composite font are cut and numbered.
enum Composite {
    CMap(CMap),
    /// A predefined CMap whose codes are a known character encoding.
    Legacy(&'static Encoding),
    /// Two bytes of JIS X 0208: EUC-JP without its high bits.
    Jis,
}

impl Font {
    pub fn new(document: &Document, font: &Dictionary, encodings: &mut Encodings) -> Self {
        let to_unicode = stream(document, font, b"ToUnicode").map(|source| CMap::parse(&source));
        let kind = match name(document, font, b"Subtype") {
            Some(b"Type0") => composite(document, font),
            _ => Kind::Simple(simple(document, font, encodings)),
        };
        Self {
            kind,
            to_unicode: to_unicode.filter(CMap::has_text),
        }
    }

    pub fn is_vertical(&self) -> bool {
        matches!(
            self.kind,
            Kind::Composite {
                is_vertical: true,
                ..
            }
        )
    }

    /// Cuts a shown string into its codes.
    pub fn decode(&self, bytes: &[u8]) -> Vec<Shown> {
        match &self.kind {
            Kind::Simple(table) => bytes
                .iter()
                .map(|byte| self.decode_simple(table, *byte))
                .collect(),
            Kind::Composite {
                encoding,
                widths,
                default_width,
                is_vertical,
            } => {
                let width = |cid: u32| {
                    if *is_vertical {
                        -1.0
                    } else {
                        *widths.get(&cid).unwrap_or(default_width) / 1000.0
                    }
                };
                let mut shown = Vec::new();
                let mut rest = bytes;
                while let Some((code, num_bytes)) = encoding.next_code(rest) {
                    let (this, after) = rest.split_at(num_bytes);
                    rest = after;
                    let mapped = self.to_unicode.as_ref().and_then(|map| map.text(code));
                    let text = mapped.map_or_else(|| encoding.text(this), str::to_owned);
                    let advance = width(encoding.cid(code));
                    shown.push(Shown {
                        text,
                        advance,
                        is_word_space: this == [32],
                    });
                }
                shown
            }
        }
    }

    fn decode_simple(&self, table: &Table, byte: u8) -> Shown {
        let (text, width) = &table[usize::from(byte)];
        let mapped = self
            .to_unicode
            .as_ref()
            .and_then(|map| map.text(u32::from(byte)));
        Shown {
            text: mapped.unwrap_or(text).to_owned(),
            advance: width / 1000.0,
            is_word_space: byte == 32,
        }
    }
}

impl Composite {
    fn next_code(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        match self {
            Self::CMap(cmap) => cmap.next_code(bytes),
            Self::Jis => Some((0, bytes.len().min(2))).filter(|(_, num_bytes)| *num_bytes > 0),
            Self::Legacy(encoding) => {
                let first = *bytes.first()?;
                let is_kana = *encoding == encoding_rs::SHIFT_JIS && (0xa1..=0xdf).contains(&first);
                let is_double = *encoding == encoding_rs::UTF_16BE || (first >= 0x81 && !is_kana);
                let num_bytes = if is_double { 2.min(bytes.len()) } else { 1 };
                Some((
                    bytes[..num_bytes]
                        .iter()
                        .fold(0, |code, byte| code << 8 | u32::from(*byte)),
                    num_bytes,
                ))
            }
        }
    }

    fn text(&self, code: &[u8]) -> String {
        match self {
            Self::CMap(_) => String::new(),
            Self::Legacy(encoding) => decode(encoding, code),
            Self::Jis => {
                let code: Vec<u8> = code.iter().map(|byte| byte | 0x80).collect();
                decode(encoding_rs::EUC_JP, &code)
            }
        }
    }

    fn cid(&self, code: u32) -> u32 {
        match self {
            Self::CMap(cmap) => cmap.cid(code),
            Self::Legacy(_) | Self::Jis => code,
        }
    }
}

fn decode(encoding: &'static Encoding, code: &[u8]) -> String {
    let text = encoding.decode_without_bom_handling_and_without_replacement(code);
    text.unwrap_or_default().into_owned()
}

fn composite(document: &Document, font: &Dictionary) -> Kind {
    let encoding_name = name(document, font, b"Encoding").unwrap_or(b"Identity-H");
    let encoding = match stream(document, font, b"Encoding") {
        Some(source) => Composite::CMap(CMap::parse(&source)),
        None if matches!(encoding_name, b"H" | b"V") => Composite::Jis,
        None => legacy(encoding_name)
            .map_or_else(|| Composite::CMap(CMap::default()), Composite::Legacy),
    };
    let descendant = get(document, font, b"DescendantFonts")
        .and_then(|fonts| fonts.as_array().ok())
        .and_then(|fonts| dictionary(document, fonts.first()?));
    let descendant = descendant.unwrap_or(font);
    let default_width = get(document, descendant, b"DW")
        .and_then(number)
        .unwrap_or(1000.0);
    let widths = get(document, descendant, b"W").and_then(|widths| widths.as_array().ok());
    let widths = widths
        .map(|widths| composite_widths(document, widths))
        .unwrap_or_default();
    let is_vertical = encoding_name.ends_with(b"-V") || encoding_name == b"V";
    Kind::Composite {
        encoding,
        widths,
        default_width,
        is_vertical,
    }
}

/// `c [w1 w2 ...]` and `first last w` (ISO 32000-1, 9.7.4.3).
fn composite_widths(document: &Document, entries: &[Object]) -> HashMap<u32, f64> {
    const MAX_RANGE: i64 = 1 << 16;
    let mut widths = HashMap::new();
    let mut entries = entries
        .iter()
        .filter_map(|entry| document.dereference(entry).ok().map(|(_, entry)| entry));
    while let (Some(first), Some(second)) = (entries.next(), entries.next()) {
        let Some(first) = number(first).map(|first| first as i64) else {
            continue;
        };
        if let Ok(each) = second.as_array() {
            for (cid, width) in (first..).zip(each) {
                if let Some(width) = document
                    .dereference(width)
                    .ok()
                    .and_then(|(_, width)| number(width))
                {
                    widths.insert(cid as u32, width);
                }
            }
        } else if let (Some(last), Some(width)) = (number(second), entries.next().and_then(number))
        {
            for cid in first..=(last as i64).min(first.saturating_add(MAX_RANGE)) {
                widths.insert(cid as u32, width);
            }
        }
    }
    widths
}

/// The character encoding behind a predefined CMap (ISO 32000-1, table 118).
fn legacy(cmap: &[u8]) -> Option<&'static Encoding> {
    let cmap = std::str::from_utf8(cmap).ok()?;
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| cmap.starts_with(prefix));
    Some(if begins(&["GB", "UniGB-EUC"]) {
        encoding_rs::GB18030
    } else if begins(&["B5", "ETen", "ETHK", "HK"]) {
        encoding_rs::BIG5
    } else if cmap.contains("RKSJ") {
        encoding_rs::SHIFT_JIS
    } else if begins(&["KSC"]) {
        encoding_rs::EUC_KR
    } else if begins(&["EUC-"]) {
        encoding_rs::EUC_JP
    } else if cmap.contains("UCS2") || cmap.contains("UTF16") {
        encoding_rs::UTF_16BE
    } else {
        return None;
    })
}

fn simple(document: &Document, font: &Dictionary, encodings: &mut Encodings) -> Table {
    let base_font =
        String::from_utf8_lossy(name(document, font, b"BaseFont").unwrap_or_default()).into_owned();
    let core_font = core_font(&base_font);
    let encoding = get(document, font, b"Encoding");
    let differences = encoding.and_then(|encoding| encoding.as_dict().ok());
    let base = match (
        encoding.and_then(|encoding| encoding.as_name().ok()),
        differences,
    ) {
        (Some(name), _) => Base::named(name),
        (None, Some(encoding)) => name(document, encoding, b"BaseEncoding").and_then(Base::named),
        (None, None) => None,
    };
    let mut table = match base {
        Some(base) => encodings.table(base, core_font).to_vec(),
        None => own_encoding(document, font, &base_font, core_font, encodings),
    };
    if let Some(differences) = differences {
        apply_differences(document, differences, &mut table, encodings);
    }
    set_widths(document, font, &mut table, core_font, encodings);
    table
}

/// The encoding of a font that names none: its program's, or the usual one for its kind.
fn own_encoding(
    document: &Document,
    font: &Dictionary,
    base_font: &str,
    core_font: &'static str,
    encodings: &mut Encodings,
) -> Table {
    let descriptor =
        get(document, font, b"FontDescriptor").and_then(|descriptor| descriptor.as_dict().ok());
    let program = |key: &str| {
        descriptor
            .and_then(|it| get(document, it, key.as_bytes()))
            .and_then(|it| it.as_stream().ok())
    };
    let built_in = ["FontFile", "FontFile3"]
        .iter()
        .find_map(|key| encodings.built_in(key, program(key)?));
    if let Some(table) = built_in {
        return table;
    }
    let base = if base_font.contains("Symbol") {
        Base::Symbol
    } else if base_font.contains("Dingbats") {
        Base::ZapfDingbats
    } else if name(document, font, b"Subtype") == Some(b"TrueType") {
        Base::WinAnsi
    } else {
        Base::Standard
    };
    encodings.table(base, core_font).to_vec()
}

fn apply_differences(
    document: &Document,
    encoding: &Dictionary,
    table: &mut Table,
    encodings: &mut Encodings,
) {
    let Some(entries) =
        get(document, encoding, b"Differences").and_then(|entries| entries.as_array().ok())
    else {
        return;
    };
    let mut code = 0;
    let mut changes: Vec<(usize, Vec<u8>)> = Vec::new();
    for entry in entries {
        match document.dereference(entry) {
            Ok((_, Object::Name(name))) => {
                changes.push((code, name.clone()));
                code += 1;
            }
            Ok((_, entry)) => code = number(entry).map_or(code, |number| number as usize),
            Err(_) => {}
        }
    }
    changes.retain(|(code, _)| *code < table.len());
    let names: Vec<Vec<u8>> = changes.iter().map(|(_, name)| name.clone()).collect();
    for ((code, name), text) in changes.iter().zip(encodings.names(&names)) {
        // A name that means nothing leaves what the font program says; `.notdef` is nothing.
        if let Some(text) = text {
            table[*code].0 = text;
        } else if name == b".notdef" {
            table[*code].0.clear();
        }
    }
}

/// The font's own widths; else the core font's, by character.
fn set_widths(
    document: &Document,
    font: &Dictionary,
    table: &mut Table,
    core_font: &'static str,
    encodings: &mut Encodings,
) {
    const UNKNOWN: f64 = 500.0;
    let own = get(document, font, b"Widths").and_then(|widths| widths.as_array().ok());
    let Some(own) = own else {
        let known: HashMap<String, f64> = [Base::Standard, Base::WinAnsi]
            .iter()
            .flat_map(|base| encodings.table(*base, core_font).to_vec())
            .filter(|(text, width)| !text.is_empty() && *width > 0.0)
            .collect();
        for (text, width) in table.iter_mut() {
            if *width <= 0.0 {
                *width = known.get(text).copied().unwrap_or(UNKNOWN);
            }
        }
        return;
    };
    let scale = width_scale(document, font);
    let descriptor =
        get(document, font, b"FontDescriptor").and_then(|descriptor| descriptor.as_dict().ok());
    let missing = descriptor
        .and_then(|it| get(document, it, b"MissingWidth"))
        .and_then(number)
        .unwrap_or(0.0);
    let first = get(document, font, b"FirstChar")
        .and_then(number)
        .unwrap_or(0.0) as usize;
    for (code, (_, width)) in table.iter_mut().enumerate() {
        let entry = code.checked_sub(first).and_then(|index| own.get(index));
        let entry = entry
            .and_then(|entry| document.dereference(entry).ok())
            .and_then(|(_, entry)| number(entry));
        *width = entry.unwrap_or(missing) * scale;
    }
}

/// The widths of a Type 3 font are in its own glyph space.
fn width_scale(document: &Document, font: &Dictionary) -> f64 {
    let matrix = get(document, font, b"FontMatrix")
        .filter(|_| name(document, font, b"Subtype") == Some(b"Type3"));
    let first = matrix
        .and_then(|matrix| matrix.as_array().ok())
        .and_then(|matrix| number(matrix.first()?));
    first.map_or(1.0, |first| first.abs() * 1000.0)
}

/// The core font whose widths are nearest to a font's.
fn core_font(base_font: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| base_font.contains(word));
    let (bold, italic) = (
        has(&["Bold", "Black", "Heavy"]),
        has(&["Italic", "Oblique"]),
    );
    if has(&["Symbol"]) {
        "Symbol"
    } else if has(&["Dingbats"]) {
        "ZapfDingbats"
    } else if has(&["Courier", "Mono", "Consolas"]) {
        "Courier"
    } else if has(&[
        "Times", "Serif", "Roman", "Garamond", "Georgia", "Cambria", "Palatino",
    ]) {
        match (bold, italic) {
            (false, false) => "Times-Roman",
            (true, false) => "Times-Bold",
            (false, true) => "Times-Italic",
            (true, true) => "Times-BoldItalic",
        }
    } else if bold {
        "Helvetica-Bold"
    } else {
        "Helvetica"
    }
}

pub fn get<'a>(
    document: &'a Document,
    dictionary: &'a Dictionary,
    key: &[u8],
) -> Option<&'a Object> {
    document
        .dereference(dictionary.get(key).ok()?)
        .ok()
        .map(|(_, object)| object)
}

pub fn dictionary<'a>(document: &'a Document, object: &'a Object) -> Option<&'a Dictionary> {
    let (_, object) = document.dereference(object).ok()?;
    object
        .as_dict()
        .ok()
        .or_else(|| object.as_stream().ok().map(|stream| &stream.dict))
}

pub fn number(object: &Object) -> Option<f64> {
    object.as_float().ok().map(f64::from)
}

fn name<'a>(document: &'a Document, dictionary: &'a Dictionary, key: &[u8]) -> Option<&'a [u8]> {
    get(document, dictionary, key)?.as_name().ok()
}

/// The decoded bytes of a stream.
fn stream(document: &Document, dictionary: &Dictionary, key: &[u8]) -> Option<Vec<u8>> {
    let stream = get(document, dictionary, key)?.as_stream().ok()?;
    streams::decoded(document, stream).ok()
}
