//! Rich Text Format (Microsoft's specification 1.9.1): the words in order, with headings, rows of tables and notes.
//! Reads without recursion, so that no nesting can overflow the stack.

use std::collections::HashMap;

use encoding_rs::Encoding;

use super::protocol::Refusal;
use super::reader::Whole;
use super::table::on_one_line;
use super::writer::{PAGE_MARK, Writer};

pub fn open(bytes: &[u8]) -> Result<Whole, Refusal> {
    let mut document = Document::new();
    let mut tokens = Tokens { bytes, at: 0 };
    while let Some(token) = tokens.next() {
        document.take(token, &mut tokens)?;
    }
    document.end();
    let title = on_one_line(&document.title);
    let content = document.writer.finish()?;
    if content.text.is_empty() {
        return Err(Refusal::NoText("there are no words in it".to_owned()));
    }
    Ok(Whole::new((!title.is_empty()).then_some(title), content))
}

enum Token<'a> {
    Open,
    Close,
    /// A word of letters with its number.
    Word(&'a str, Option<i32>),
    Symbol(u8),
    /// `\'hh`.
    Byte(u8),
    Text(&'a [u8]),
}

struct Tokens<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        let first = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(match first {
            b'{' => Token::Open,
            b'}' => Token::Close,
            b'\\' => self.control(),
            _ => {
                let start = self.at - 1;
                let rest = &self.bytes[self.at..];
                let len = rest.iter().position(|byte| b"{}\\".contains(byte));
                self.at += len.unwrap_or(rest.len());
                Token::Text(&self.bytes[start..self.at])
            }
        })
    }

    fn control(&mut self) -> Token<'a> {
        let rest = &self.bytes[self.at..];
        let num_letters = rest
            .iter()
            .take_while(|byte| byte.is_ascii_alphabetic())
            .count();
        if num_letters == 0 {
            let symbol = rest.first().copied().unwrap_or(b' ');
            self.at += 1;
            if symbol != b'\'' {
                return Token::Symbol(symbol);
            }
            let code = rest.get(1..3).and_then(|it| std::str::from_utf8(it).ok());
            let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok());
            self.at += if byte.is_some() { 2 } else { 0 };
            return Token::Byte(byte.unwrap_or(b'?'));
        }
        let (word, rest) = rest.split_at(num_letters);
        let sign = usize::from(rest.first() == Some(&b'-'));
        let num_digits = rest[sign..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let number = match num_digits {
            0 => &rest[..0],
            _ => &rest[..sign + num_digits],
        };
        self.at += num_letters + number.len();
        // One blank ends the word and is not text.
        self.at += usize::from(rest.get(number.len()) == Some(&b' '));
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap_or_default();
        Token::Word(text(word), text(number).parse().ok())
    }

    fn skip(&mut self, num_bytes: usize) {
        self.at = self.at.saturating_add(num_bytes).min(self.bytes.len());
    }
}

/// Where the words of a group go.
#[derive(Clone, Copy, PartialEq)]
enum Target {
    Body,
    Note,
    Title,
    StyleSheet,
    FontTable,
    Nowhere,
}

/// What a group's end restores.
#[derive(Clone)]
struct State {
    target: Target,
    is_hidden: bool,
    encoding: &'static Encoding,
    /// How many characters stand behind `\u` for programs that do not know it.
    num_fallback: usize,
    outline: Option<u8>,
    style: i32,
    is_in_table: bool,
    /// The next word says what the group is, and may be passed over when unknown.
    is_optional: bool,
}

struct Document {
    writer: Writer,
    state: State,
    stack: Vec<State>,
    /// Of the paragraph, the note, the title or the style that is being read.
    body: String,
    note: String,
    title: String,
    style_name: String,
    /// Bytes of an encoding whose characters can have several.
    bytes: Vec<u8>,
    high_surrogate: Option<u32>,
    num_to_skip: usize,
    usual_encoding: &'static Encoding,
    font: i32,
    fonts: HashMap<i32, &'static Encoding>,
    levels: HashMap<i32, u8>,
    /// The style whose name the style sheet gives next.
    last_style: i32,
    notes: Vec<String>,
    num_notes: usize,
    row: Vec<String>,
}

impl Document {
    fn new() -> Self {
        let encoding = encoding_rs::WINDOWS_1252;
        Self {
            writer: Writer::default(),
            state: State {
                target: Target::Body,
                is_hidden: false,
                encoding,
                num_fallback: 1,
                outline: None,
                style: 0,
                is_in_table: false,
                is_optional: false,
            },
            stack: Vec::new(),
            body: String::new(),
            note: String::new(),
            title: String::new(),
            style_name: String::new(),
            bytes: Vec::new(),
            high_surrogate: None,
            num_to_skip: 0,
            usual_encoding: encoding,
            font: 0,
            fonts: HashMap::new(),
            levels: HashMap::new(),
            last_style: 0,
            notes: Vec::new(),
            num_notes: 0,
            row: Vec::new(),
        }
    }

    fn take(&mut self, token: Token<'_>, tokens: &mut Tokens<'_>) -> Result<(), String> {
        const MAX_DEPTH: usize = 1000;
        if !matches!(token, Token::Byte(_) | Token::Text(_)) {
            self.flush();
        }
        match token {
            Token::Open => {
                if self.stack.len() >= MAX_DEPTH {
                    return Err("its groups are nested too deeply".to_owned());
                }
                self.num_to_skip = 0;
                self.stack.push(self.state.clone());
            }
            Token::Close => {
                self.num_to_skip = 0;
                let ended = self.state.target;
                if let Some(state) = self.stack.pop() {
                    self.state = state;
                }
                self.end_group(ended);
            }
            Token::Word("bin", Some(num_bytes)) => {
                tokens.skip(usize::try_from(num_bytes).unwrap_or(0));
            }
            Token::Word(word, number) => self.word(word, number),
            Token::Symbol(b'*') => self.state.is_optional = true,
            Token::Symbol(symbol) => match symbol {
                b'\\' | b'{' | b'}' => self.push(&char::from(symbol).to_string()),
                b'~' => self.push("\u{a0}"),
                b'_' => self.push("-"),
                b'\n' | b'\r' => self.word("par", None),
                _ => {}
            },
            Token::Byte(byte) => self.byte(byte),
            Token::Text(text) => {
                for byte in text
                    .iter()
                    .filter(|byte| !matches!(byte, b'\r' | b'\n' | 0))
                {
                    self.byte(*byte);
                }
            }
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8) {
        match self.num_to_skip {
            0 => self.bytes.push(byte),
            _ => self.num_to_skip -= 1,
        }
    }

    /// Decodes the bytes that have come together.
    fn flush(&mut self) {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            let (text, _) = self.state.encoding.decode_without_bom_handling(&bytes);
            self.push(&text);
        }
    }

    fn push(&mut self, text: &str) {
        if self.state.is_hidden {
            return;
        }
        match self.state.target {
            Target::Body => self.body.push_str(text),
            Target::Note => self.note.push_str(text),
            Target::Title => self.title.push_str(text),
            Target::StyleSheet => self.style_name.push_str(text),
            Target::FontTable | Target::Nowhere => {}
        }
    }

    fn word(&mut self, word: &str, number: Option<i32>) {
        let is_optional = std::mem::take(&mut self.state.is_optional);
        let is_on = number != Some(0);
        match word {
            "shptxt" => self.state.target = Target::Body,
            "fonttbl" => self.state.target = Target::FontTable,
            "stylesheet" => self.state.target = Target::StyleSheet,
            "title" if self.state.target == Target::Nowhere => self.state.target = Target::Title,
            "footnote" => self.state.target = Target::Note,
            "info" | "colortbl" | "pict" | "nonshppict" | "header" | "headerl" | "headerr"
            | "headerf" | "footer" | "footerl" | "footerr" | "footerf" | "filetbl" | "xe"
            | "tc" | "tcn" | "fldinst" | "annotation" | "atnid" | "atnauthor" | "themedata"
            | "listtable" | "bkmkstart" | "bkmkend" | "ftnsep" | "ftnsepc" | "aftnsep"
            | "aftnsepc" => self.state.target = Target::Nowhere,
            // In the style sheet styles of characters are marked so.
            _ if is_optional && self.state.target != Target::StyleSheet => {
                self.state.target = Target::Nowhere;
            }
            "ansicpg" => {
                self.usual_encoding = code_page(number).unwrap_or(self.usual_encoding);
                self.state.encoding = self.usual_encoding;
            }
            "mac" => {
                self.usual_encoding = encoding_rs::MACINTOSH;
                self.state.encoding = self.usual_encoding;
            }
            "f" => self.choose_font(number.unwrap_or(0)),
            "fcharset" if self.state.target == Target::FontTable => {
                if let Some(encoding) = charset(number) {
                    self.fonts.insert(self.font, encoding);
                }
            }
            "uc" => self.state.num_fallback = usize::try_from(number.unwrap_or(1)).unwrap_or(0),
            "u" => self.unicode(number.unwrap_or(0)),
            "s" if self.state.target == Target::StyleSheet => {
                self.last_style = number.unwrap_or(0);
            }
            "s" => self.state.style = number.unwrap_or(0),
            "outlinelevel" => {
                let level = number.and_then(|level| u8::try_from(level).ok());
                self.state.outline = level.filter(|level| *level < 9);
            }
            "v" => self.state.is_hidden = is_on,
            "deleted" => self.state.is_hidden = is_on,
            "plain" => self.state.is_hidden = false,
            "pard" => {
                self.state.outline = None;
                self.state.style = 0;
                self.state.is_in_table = false;
            }
            "intbl" => self.state.is_in_table = true,
            "par" | "sect" if self.state.target == Target::Body => self.end_paragraph(),
            "par" | "line" | "softline" => self.push("\n"),
            "page" => self.push(&format!("\n{PAGE_MARK}")),
            "tab" => self.push("\t"),
            "cell" | "nestcell" => {
                let cell = on_one_line(&std::mem::take(&mut self.body));
                self.row.push(cell);
            }
            "row" | "nestrow" => self.end_row(),
            "emdash" => self.push("—"),
            "endash" => self.push("–"),
            "bullet" => self.push("•"),
            "lquote" => self.push("‘"),
            "rquote" => self.push("’"),
            "ldblquote" => self.push("“"),
            "rdblquote" => self.push("”"),
            "emspace" | "enspace" | "qmspace" => self.push(" "),
            _ => {}
        }
    }

    fn choose_font(&mut self, font: i32) {
        match self.state.target {
            Target::FontTable => self.font = font,
            _ => {
                let encoding = self.fonts.get(&font).copied();
                self.state.encoding = encoding.unwrap_or(self.usual_encoding);
            }
        }
    }

    fn unicode(&mut self, number: i32) {
        // Numbers above 32,767 are written as negative ones.
        let unit = (number & 0xffff) as u32;
        let high = self.high_surrogate.take();
        match (high, unit) {
            (_, 0xd800..=0xdbff) => self.high_surrogate = Some(unit),
            (Some(high), 0xdc00..=0xdfff) => {
                let code = 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00);
                self.push(&char::from_u32(code).unwrap_or('\u{fffd}').to_string());
            }
            _ => self.push(&char::from_u32(unit).unwrap_or('\u{fffd}').to_string()),
        }
        self.num_to_skip = self.state.num_fallback;
    }

    fn end_group(&mut self, ended: Target) {
        match (ended, self.state.target) {
            (Target::Note, target) if target != Target::Note => {
                self.num_notes += 1;
                let note = on_one_line(&std::mem::take(&mut self.note));
                self.notes.push(format!("[^{}]: {note}", self.num_notes));
                self.push(&format!("[^{}]", self.num_notes));
            }
            (Target::StyleSheet, _) => self.end_style(),
            _ => {}
        }
    }

    fn end_style(&mut self) {
        let name = std::mem::take(&mut self.style_name);
        let name = name.trim().trim_end_matches(';').to_lowercase();
        let level = name
            .strip_prefix("heading ")
            .and_then(|level| level.parse().ok());
        if let Some(level) = level {
            self.levels.insert(self.last_style, level);
        }
    }

    /// The end of the file, wherever it comes.
    fn end(&mut self) {
        self.flush();
        let note = on_one_line(&std::mem::take(&mut self.note));
        if !note.is_empty() {
            self.num_notes += 1;
            self.notes.push(format!("[^{}]: {note}", self.num_notes));
        }
        if self.state.is_in_table {
            let cell = on_one_line(&std::mem::take(&mut self.body));
            self.row.extend(Some(cell).filter(|cell| !cell.is_empty()));
            self.state.is_in_table = false;
        }
        self.end_paragraph();
    }

    fn end_paragraph(&mut self) {
        if self.state.is_in_table {
            self.body.push('\n');
            return;
        }
        self.end_row();
        let text = std::mem::take(&mut self.body);
        let of_style = self.levels.get(&self.state.style).copied();
        match self.state.outline.map(|outline| outline + 1).or(of_style) {
            Some(level) => self.writer.heading(level, &text),
            None => self.writer.paragraph(&text),
        }
        for note in std::mem::take(&mut self.notes) {
            self.writer.line(&note);
        }
    }

    fn end_row(&mut self) {
        let row = std::mem::take(&mut self.row);
        if row.iter().any(|cell| !cell.is_empty()) {
            self.writer.line(row.join(" | ").trim());
        }
    }
}

fn code_page(number: Option<i32>) -> Option<&'static Encoding> {
    Some(match number? {
        874 => encoding_rs::WINDOWS_874,
        932 => encoding_rs::SHIFT_JIS,
        936 => encoding_rs::GBK,
        949 => encoding_rs::EUC_KR,
        950 => encoding_rs::BIG5,
        1250 => encoding_rs::WINDOWS_1250,
        1251 => encoding_rs::WINDOWS_1251,
        1252 => encoding_rs::WINDOWS_1252,
        1253 => encoding_rs::WINDOWS_1253,
        1254 => encoding_rs::WINDOWS_1254,
        1255 => encoding_rs::WINDOWS_1255,
        1256 => encoding_rs::WINDOWS_1256,
        1257 => encoding_rs::WINDOWS_1257,
        1258 => encoding_rs::WINDOWS_1258,
        10000 => encoding_rs::MACINTOSH,
        65001 => encoding_rs::UTF_8,
        _ => return None,
    })
}

/// The encoding of a font; 0 and 1 say nothing.
fn charset(number: Option<i32>) -> Option<&'static Encoding> {
    code_page(Some(match number? {
        77 => 10000,
        128 => 932,
        129 => 949,
        134 => 936,
        136 => 950,
        161 => 1253,
        162 => 1254,
        163 => 1258,
        177 => 1255,
        178 => 1256,
        186 => 1257,
        204 => 1251,
        222 => 874,
        238 => 1250,
        _ => return None,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::reader::Reader;
    use super::*;

    #[test]
    fn words_headings_rows_and_notes_are_read() {
        let source = br"{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}{\f1\fcharset204 Arial;}}
{\stylesheet{\s0 Normal;}{\s1\b heading 1;}{\*\cs2 Strong;}}{\info{\title The Ferry}{\author X}}
\pard\s1 Times\par\pard F\'fcr {\f1\'cc\'e8\'f0} \u8364?5{\v hidden}{\footnote noted.}\par
\trowd\intbl A\cell B\par b\cell\row\trowd\intbl 1\cell 2\cell\row\pard
{\field{\*\fldinst HYPERLINK x}{\fldrslt link}} {\pict 0102}\page{\*\unknown gone}end\par}";
        let mut document = open(source).expect("read");
        assert_eq!(document.title().as_deref(), Some("The Ferry"));
        let page = document.page(1).expect("read");
        assert_eq!(
            page.text,
            "Times\n\nFür Мир €5[^1]\n\n[^1]: noted.\nA | B b\n1 | 2\n\nlink\nend"
        );
        assert_eq!(page.headings[0].title, "Times");
        assert_eq!(page.breaks.len(), 1);
    }

    #[test]
    fn what_is_cut_or_nested_without_end_is_no_harm() {
        assert!(open(b"{\\rtf1 words \\'").is_ok());
        assert!(open(b"{\\rtf1 words \\bin99999999 \\u-10187").is_ok());
        assert!(matches!(
            open(&b"{".repeat(1_000_000)),
            Err(Refusal::Invalid(_))
        ));
    }
}
