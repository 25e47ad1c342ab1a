//! What the codes of simple fonts stand for: standard encodings, glyph names, core font widths and the encodings
//! inside font programs. The tables and font parsers are pdf-extract's; they are asked through a page made for the
//! question, and a parser that panics has no answer.

use std::collections::HashMap;
use std::rc::Rc;

use pdf_extract::{
    Dictionary, Document, MediaBox, Object, OutputDev, OutputError, Stream, StringFormat,
    Transform, dictionary,
};

/// Text (empty if unknown) and width in thousandths of the font size for each code.
pub type Table = Vec<(String, f64)>;

/// The encodings that PDF knows by name, and those of the two core fonts that have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Base {
    Standard,
    WinAnsi,
    MacRoman,
    MacExpert,
    Symbol,
    ZapfDingbats,
}

impl Base {
    pub fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"StandardEncoding" => Self::Standard,
            b"WinAnsiEncoding" => Self::WinAnsi,
            b"MacRomanEncoding" => Self::MacRoman,
            b"MacExpertEncoding" => Self::MacExpert,
            _ => return None,
        })
    }
}

/// Remembers every answer.
#[derive(Default)]
pub struct Encodings {
    tables: HashMap<(Base, &'static str), Rc<Table>>,
    names: HashMap<Vec<u8>, Option<String>>,
}

impl Encodings {
    /// A base encoding with the widths of a core font.
    pub fn table(&mut self, base: Base, core_font: &'static str) -> Rc<Table> {
        let table = self.tables.entry((base, core_font)).or_insert_with(|| {
            let (font, encoding) = match base {
                Base::Standard => (core_font, None),
                Base::WinAnsi => (core_font, Some("WinAnsiEncoding")),
                Base::MacRoman => (core_font, Some("MacRomanEncoding")),
                Base::MacExpert => (core_font, Some("MacExpertEncoding")),
                Base::Symbol => ("Symbol", None),
                Base::ZapfDingbats => ("ZapfDingbats", None),
            };
            let mut question = font_named(font);
            if let Some(encoding) = encoding {
                question.set("Encoding", encoding);
            }
            Rc::new(
                ask_all(Document::new(), question)
                    .unwrap_or_else(|| vec![(String::new(), 0.0); 256]),
            )
        });
        Rc::clone(table)
    }

    /// The encoding inside a Type 1 font program: `key` is where the descriptor has it.
    pub fn built_in(&mut self, key: &str, program: &Stream) -> Option<Table> {
        let mut document = Document::new();
        let program = document.add_object(program.clone());
        let mut question = font_named("Embedded");
        question.set("FontDescriptor", dictionary! { key => program });
        if key == "FontFile3" {
            // So that codes which the program leaves out have an answer too.
            question.set("Encoding", Dictionary::new());
        }
        ask_all(document, question)
    }

    /// The text for each glyph name; `None` for names that mean nothing outside their font.
    pub fn names(&mut self, names: &[Vec<u8>]) -> Vec<Option<String>> {
        let mut unknown: Vec<&Vec<u8>> = names
            .iter()
            .filter(|name| !self.names.contains_key(*name))
            .collect();
        unknown.sort();
        unknown.dedup();
        let learnt: Vec<(Vec<u8>, Option<String>)> = unknown
            .chunks(NUM_FREE_CODES)
            .flat_map(|names| {
                let texts = look_up(names).unwrap_or_else(|| vec![None; names.len()]);
                names
                    .iter()
                    .map(|name| (*name).clone())
                    .zip(texts)
                    .collect::<Vec<_>>()
            })
            .collect();
        self.names.extend(learnt);
        names.iter().map(|name| self.names[name].clone()).collect()
    }
}

/// The codes 1 to 31 stand for nothing in WinAnsiEncoding, so names can be put there and recognised.
const NUM_FREE_CODES: usize = 31;

fn look_up(names: &[&Vec<u8>]) -> Option<Vec<Option<String>>> {
    let plain: Vec<&[u8]> = names.iter().map(|name| without_variant(name)).collect();
    let mut differences = vec![Object::Integer(1)];
    differences.extend(plain.iter().map(|name| Object::Name(name.to_vec())));
    let mut question = font_named("Helvetica");
    question.set(
        "Encoding",
        dictionary! { "BaseEncoding" => "WinAnsiEncoding", "Differences" => differences },
    );
    let codes: Vec<u8> = (1..=names.len() as u8).collect();
    let answers = ask(Document::new(), question, &codes)?;
    Some(
        plain
            .iter()
            .zip(answers)
            .map(|(name, (text, _))| {
                by_pattern(name)
                    .or_else(|| Some(text).filter(|text| !text.trim_matches('\0').is_empty()))
            })
            .collect(),
    )
}

/// `a.sc` and `a.alt` are drawn differently and mean `a`.
fn without_variant(name: &[u8]) -> &[u8] {
    match name.iter().position(|byte| *byte == b'.') {
        Some(at @ 1..) => &name[..at],
        _ => name,
    }
}

/// Names that spell out their characters: `uni00410042`, `u1F600`, `f_i`.
fn by_pattern(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    if let Some(digits) = name
        .strip_prefix("uni")
        .filter(|digits| digits.len() >= 4 && digits.len() % 4 == 0)
    {
        return digits
            .as_bytes()
            .chunks(4)
            .map(|four| character(std::str::from_utf8(four).ok()?))
            .collect();
    }
    if let Some(digits) = name
        .strip_prefix('u')
        .filter(|digits| (4..=6).contains(&digits.len()))
    {
        return character(digits).map(String::from);
    }
    let letters: Vec<&str> = name.split('_').collect();
    (letters.len() > 1 && letters.iter().all(|letter| letter.len() == 1)).then(|| letters.concat())
}

fn character(hex: &str) -> Option<char> {
    char::from_u32(u32::from_str_radix(hex, 16).ok()?)
}

fn font_named(name: &str) -> Dictionary {
    dictionary! { "Type" => "Font", "Subtype" => "Type1", "BaseFont" => name }
}

fn ask_all(document: Document, font: Dictionary) -> Option<Table> {
    let codes: Vec<u8> = (0..=255).collect();
    let table = ask(document, font, &codes)?;
    Some(
        table
            .into_iter()
            .map(|(text, width)| (text.replace('\0', ""), width))
            .collect(),
    )
}

/// Lets pdf-extract show `codes` in `font` on a page of its own, and listens.
fn ask(mut document: Document, font: Dictionary, codes: &[u8]) -> Option<Table> {
    let shown = Object::String(codes.to_vec(), StringFormat::Hexadecimal);
    let operations = vec![
        pdf_extract::content::Operation::new("Tf", vec!["F".into(), 1.into()]),
        pdf_extract::content::Operation::new("Tj", vec![shown]),
    ];
    let content = pdf_extract::content::Content { operations }.encode().ok()?;
    let content = document.add_object(Stream::new(Dictionary::new(), content));
    let font = document.add_object(font);
    let page = document.add_object(dictionary! {
        "Type" => "Page",
        "MediaBox" => vec![0.into(), 0.into(), 1.into(), 1.into()],
        "Resources" => dictionary! { "Font" => dictionary! { "F" => font } },
        "Contents" => content,
    });
    let pages = document
        .add_object(dictionary! { "Type" => "Pages", "Kids" => vec![page.into()], "Count" => 1 });
    let catalog = document.add_object(dictionary! { "Type" => "Catalog", "Pages" => pages });
    document.trailer.set("Root", catalog);
    let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut listener = Listener::default();
        pdf_extract::output_doc_page(&document, &mut listener, 1)
            .ok()
            .map(|()| listener.heard)
    }));
    answer
        .ok()
        .flatten()
        .filter(|heard| heard.len() == codes.len())
}

#[derive(Default)]
struct Listener {
    heard: Table,
}

impl OutputDev for Listener {
    fn begin_page(
        &mut self,
        _: u32,
        _: &MediaBox,
        _: Option<(f64, f64, f64, f64)>,
    ) -> Result<(), OutputError> {
        Ok(())
    }
    fn end_page(&mut self) -> Result<(), OutputError> {
        Ok(())
    }
    fn output_character(
        &mut self,
        _: &Transform,
        width: f64,
        _: f64,
        _: f64,
        text: &str,
    ) -> Result<(), OutputError> {
        self.heard.push((text.to_owned(), width * 1000.0));
        Ok(())
    }
    fn begin_word(&mut self) -> Result<(), OutputError> {
        Ok(())
    }
    fn end_word(&mut self) -> Result<(), OutputError> {
        Ok(())
    }
    fn end_line(&mut self) -> Result<(), OutputError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_encodings_and_core_widths_are_known() {
        let mut encodings = Encodings::default();
        let win = encodings.table(Base::WinAnsi, "Helvetica");
        assert_eq!(win[0xe4], ("ä".to_owned(), 556.0));
        let standard = encodings.table(Base::Standard, "Times-Roman");
        assert_eq!(standard[0xae].0, "ﬁ");
        assert_eq!(standard[0x41], ("A".to_owned(), 722.0));
        assert_eq!(encodings.table(Base::Symbol, "Symbol")[0x61].0, "α");
    }

    #[test]
    fn glyph_names_give_their_text() {
        let names = [
            "germandbls",
            "uni20AC",
            "u1F600",
            "f_f_i",
            "a.sc",
            "g17",
            ".notdef",
            "space",
        ];
        let names: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let found = Encodings::default().names(&names);
        let found: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
        assert_eq!(
            found,
            [
                Some("ß"),
                Some("€"),
                Some("😀"),
                Some("ffi"),
                Some("a"),
                None,
                None,
                Some(" ")
            ]
        );
    }
}
