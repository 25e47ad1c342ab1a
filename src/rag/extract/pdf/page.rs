//! Follows a page's drawing operators as far as they place text (ISO 32000-1, chapter 9). Colours, paths and images
//! are passed over. Never recurses deeper or goes on longer than the limits below, whatever the page says.

use std::collections::HashMap;
use std::rc::Rc;

use pdf_extract::{Dictionary, Document, Object, ObjectId, Stream};

use super::encoding::Encodings;
use super::font::{self, Font, Shown, get};
use super::lexer::{Lexer, Value};
use super::matrix::Matrix;
use super::streams;

/// A piece of text at its place on the page.
#[derive(Debug, Clone, PartialEq)]
pub struct Glyph {
    /// Empty for a glyph that only takes space.
    pub text: String,
    /// Where it begins on the baseline.
    pub origin: (f64, f64),
    /// Where the next one is expected.
    pub end: (f64, f64),
    /// The unit vector of the baseline.
    pub direction: (f64, f64),
    /// The height of the font on the page.
    pub size: f64,
}

#[derive(Debug, Default)]
pub struct Drawn<'a> {
    pub glyphs: Vec<Glyph>,
    /// How many glyphs have a font that does not tell their text.
    pub num_unreadable: usize,
    /// At most `MAX_IMAGES`.
    pub images: Vec<PlacedImage<'a>>,
}

/// An image on the page.
#[derive(Debug)]
pub struct PlacedImage<'a> {
    /// `None` for one that is written among the operators.
    pub stream: Option<&'a Stream>,
    /// Takes the unit square to the image's place.
    pub place: Matrix,
}

/// Fonts are the same object on many pages.
pub struct PageFonts<'a> {
    pub encodings: &'a mut Encodings,
    pub known: &'a mut HashMap<FontKey, Rc<Font>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FontKey {
    Object(ObjectId),
    /// A font written inside a resource dictionary, known by its place in memory: the document does not move.
    Inline(usize),
}

const MAX_FORM_DEPTH: usize = 16;
const MAX_OPERATORS: usize = 20_000_000;
const MAX_GLYPHS: usize = 2_000_000;
const MAX_SAVED_STATES: usize = 1024;
const MAX_IMAGES: usize = 1000;

pub fn read_page<'a>(
    document: &'a Document,
    id: ObjectId,
    fonts: PageFonts<'a>,
    empty: &'a Dictionary,
) -> Result<Drawn<'a>, String> {
    let page = document
        .get_dictionary(id)
        .map_err(|error| error.to_string())?;
    let content = page_content(document, page)?;
    let resources = inherited(document, page, b"Resources").unwrap_or(empty);
    let mut interpreter = Interpreter {
        document,
        fonts,
        drawn: Drawn::default(),
        num_operators: 0,
    };
    interpreter.run(&content, resources, State::new(), 0)?;
    Ok(interpreter.drawn)
}

/// A page's streams are one program, cut anywhere between two words.
fn page_content(document: &Document, page: &Dictionary) -> Result<Vec<u8>, String> {
    let parts: Vec<&Stream> = match get(document, page, b"Contents") {
        Some(Object::Stream(stream)) => vec![stream],
        Some(Object::Array(parts)) => parts
            .iter()
            .filter_map(|part| document.dereference(part).ok())
            .filter_map(|(_, part)| part.as_stream().ok())
            .collect(),
        _ => Vec::new(),
    };
    let mut content = Vec::new();
    let mut failure = None;
    for part in &parts {
        match streams::decoded(document, part) {
            Ok(part) => content.extend(part),
            Err(reason) => failure = Some(reason),
        }
        content.push(b'\n');
    }
    match failure {
        Some(reason) if content.iter().all(u8::is_ascii_whitespace) => Err(reason),
        _ => Ok(content),
    }
}

fn inherited<'a>(
    document: &'a Document,
    page: &'a Dictionary,
    key: &[u8],
) -> Option<&'a Dictionary> {
    inherited_as(document, page, key, |found| found.as_dict().ok())
}

/// An attribute of a page that may stand at the nodes above it (ISO 32000-1, 7.7.3.4).
pub fn inherited_as<'a, T>(
    document: &'a Document,
    page: &'a Dictionary,
    key: &[u8],
    read: impl Fn(&'a Object) -> Option<T>,
) -> Option<T> {
    const MAX_ANCESTORS: usize = 64;
    let mut node = page;
    for _ in 0..MAX_ANCESTORS {
        if let Some(found) = get(document, node, key).and_then(&read) {
            return Some(found);
        }
        node = get(document, node, b"Parent")?.as_dict().ok()?;
    }
    None
}

/// The graphics state, as far as text depends on it.
#[derive(Clone)]
struct State {
    page: Matrix,
    font: Option<Rc<Font>>,
    font_size: f64,
    character_spacing: f64,
    word_spacing: f64,
    scale: f64,
    leading: f64,
    rise: f64,
    /// Where the next glyph goes, and where its line began.
    text: Matrix,
    line: Matrix,
}

impl State {
    fn new() -> Self {
        Self {
            page: Matrix::IDENTITY,
            font: None,
            font_size: 1.0,
            character_spacing: 0.0,
            word_spacing: 0.0,
            scale: 1.0,
            leading: 0.0,
            rise: 0.0,
            text: Matrix::IDENTITY,
            line: Matrix::IDENTITY,
        }
    }

    fn set_line(&mut self, line: Matrix) {
        self.line = line;
        self.text = line;
    }

    fn next_line(&mut self, x: f64, y: f64) {
        self.set_line(Matrix::translation(x, y).then(&self.line));
    }

    fn advance(&mut self, x: f64, y: f64) {
        self.text = Matrix::translation(x, y).then(&self.text);
    }
}

/// What marked content says its glyphs mean: the text is due with the first glyph, the others are part of it.
enum Replacement {
    Due(String),
    Given,
}

struct Interpreter<'a> {
    document: &'a Document,
    fonts: PageFonts<'a>,
    drawn: Drawn<'a>,
    num_operators: usize,
}

impl<'a> Interpreter<'a> {
    fn run(
        &mut self,
        content: &[u8],
        resources: &'a Dictionary,
        mut state: State,
        depth: usize,
    ) -> Result<(), String> {
        let mut saved: Vec<State> = Vec::new();
        let mut marked: Vec<Option<Replacement>> = Vec::new();
        let mut lexer = Lexer::new(content);
        let mut operands = Vec::new();
        while let Some(operator) = lexer.operator(&mut operands) {
            self.num_operators += 1;
            if self.num_operators > MAX_OPERATORS || self.drawn.glyphs.len() > MAX_GLYPHS {
                return Err(format!(
                    "it draws more than {MAX_GLYPHS} letters or has more than {MAX_OPERATORS} operators"
                ));
            }
            match operator {
                b"q" if saved.len() < MAX_SAVED_STATES => saved.push(state.clone()),
                b"Q" => state = saved.pop().unwrap_or(state),
                b"cm" => {
                    if let Some(matrix) = matrix(&operands) {
                        state.page = matrix.then(&state.page);
                    }
                }
                b"BI" => self.add_image(None, &state),
                b"Do" => self.draw_object(resources, &operands, &state, depth)?,
                b"BMC" => marked.push(None),
                b"BDC" => marked.push(self.actual_text(resources, &operands).map(Replacement::Due)),
                b"EMC" => {
                    marked.pop();
                }
                b"Tf" => {
                    if let [.., Value::Name(name), Value::Number(size)] = operands.as_slice() {
                        state.font = self.font(resources, name);
                        state.font_size = *size;
                    }
                }
                _ => self.text_operator(operator, &operands, &mut state, &mut marked),
            }
        }
        Ok(())
    }

    fn text_operator(
        &mut self,
        operator: &[u8],
        operands: &[Value],
        state: &mut State,
        marked: &mut [Option<Replacement>],
    ) {
        let last = operands.last().and_then(Value::number);
        match (operator, last) {
            (b"BT", _) => state.set_line(Matrix::IDENTITY),
            (b"Tc", Some(spacing)) => state.character_spacing = spacing,
            (b"Tw", Some(spacing)) => state.word_spacing = spacing,
            (b"Tz", Some(percent)) => state.scale = percent / 100.0,
            (b"TL", Some(leading)) => state.leading = leading,
            (b"Ts", Some(rise)) => state.rise = rise,
            (b"Td" | b"TD", Some(y)) => {
                let x = operands
                    .iter()
                    .rev()
                    .nth(1)
                    .and_then(Value::number)
                    .unwrap_or(0.0);
                if operator == b"TD" {
                    state.leading = -y;
                }
                state.next_line(x, y);
            }
            (b"Tm", _) => {
                if let Some(matrix) = matrix(operands) {
                    state.set_line(matrix);
                }
            }
            (b"T*", _) => state.next_line(0.0, -state.leading),
            (b"Tj", _) => self.show_all(operands, state, marked),
            (b"TJ", _) => {
                let elements = operands.last().and_then(Value::array).unwrap_or_default();
                self.show_all(elements, state, marked);
            }
            (b"'", _) => {
                state.next_line(0.0, -state.leading);
                self.show_all(operands, state, marked);
            }
            (b"\"", _) => {
                if let [
                    ..,
                    Value::Number(word),
                    Value::Number(character),
                    Value::String(_),
                ] = operands
                {
                    state.word_spacing = *word;
                    state.character_spacing = *character;
                }
                state.next_line(0.0, -state.leading);
                let shown = operands.len().saturating_sub(1);
                self.show_all(&operands[shown..], state, marked);
            }
            _ => {}
        }
    }

    /// Strings are shown, numbers move the pen back by thousandths of the font size.
    fn show_all(
        &mut self,
        elements: &[Value],
        state: &mut State,
        marked: &mut [Option<Replacement>],
    ) {
        let Some(font) = state.font.clone() else {
            return;
        };
        for element in elements {
            match element {
                Value::String(bytes) => {
                    for shown in font.decode(bytes) {
                        self.show(shown, font.is_vertical(), state, marked);
                    }
                }
                Value::Number(thousandths) => {
                    let back = -thousandths / 1000.0 * state.font_size;
                    if font.is_vertical() {
                        state.advance(0.0, back);
                    } else {
                        state.advance(back * state.scale, 0.0);
                    }
                }
                _ => {}
            }
        }
    }

    fn show(
        &mut self,
        shown: Shown,
        is_vertical: bool,
        state: &mut State,
        marked: &mut [Option<Replacement>],
    ) {
        let spacing = state.character_spacing
            + if shown.is_word_space {
                state.word_spacing
            } else {
                0.0
            };
        let pen = Matrix([state.scale, 0.0, 0.0, 1.0, 0.0, state.rise])
            .then(&state.text)
            .then(&state.page);
        // The glyph itself, and the step to the next one: spacing between letters is no gap between words.
        let step = shown.advance * state.font_size + if is_vertical { -spacing } else { spacing };
        let (end, direction) = if is_vertical {
            (pen.vector(0.0, step), pen.vector(0.0, -1.0))
        } else {
            (
                pen.vector(step, 0.0),
                pen.vector(state.font_size.signum(), 0.0),
            )
        };
        let (tall, wide) = (
            length(pen.vector(0.0, state.font_size)),
            length(pen.vector(state.font_size, 0.0)),
        );
        let size = if tall > 0.0 { tall } else { wide };
        let origin = pen.origin();

        self.drawn.num_unreadable += usize::from(shown.text.is_empty());
        let replacement = marked.iter_mut().rev().find_map(Option::as_mut);
        let text = match replacement {
            None => shown.text,
            Some(replacement) => match std::mem::replace(replacement, Replacement::Given) {
                Replacement::Due(text) => text,
                Replacement::Given => String::new(),
            },
        };
        let numbers = [origin.0, origin.1, end.0, end.1, size];
        if numbers.iter().all(|number| number.is_finite()) && size > 0.0 {
            self.drawn.glyphs.push(Glyph {
                text,
                origin,
                end: (origin.0 + end.0, origin.1 + end.1),
                direction: unit(direction),
                size,
            });
        }
        if is_vertical {
            state.advance(0.0, step);
        } else {
            state.advance(step * state.scale, 0.0);
        }
    }

    fn draw_object(
        &mut self,
        resources: &'a Dictionary,
        operands: &[Value],
        state: &State,
        depth: usize,
    ) -> Result<(), String> {
        let Some(object) = self.resource(resources, b"XObject", operands) else {
            return Ok(());
        };
        let Ok(object) = object.as_stream() else {
            return Ok(());
        };
        let kind =
            get(self.document, &object.dict, b"Subtype").and_then(|kind| kind.as_name().ok());
        if kind == Some(b"Image") {
            self.add_image(Some(object), state);
        }
        if kind != Some(b"Form") || depth == MAX_FORM_DEPTH {
            return Ok(());
        }
        let own = object
            .dict
            .get(b"Resources")
            .ok()
            .and_then(|own| font::dictionary(self.document, own));
        let mut state = state.clone();
        let own_matrix =
            get(self.document, &object.dict, b"Matrix").and_then(|matrix| matrix.as_array().ok());
        if let Some(values) = own_matrix {
            let values: Vec<Value> = values
                .iter()
                .filter_map(font::number)
                .map(Value::Number)
                .collect();
            state.page = matrix(&values)
                .unwrap_or(Matrix::IDENTITY)
                .then(&state.page);
        }
        match streams::decoded(self.document, object) {
            Ok(content) => self.run(&content, own.unwrap_or(resources), state, depth + 1),
            Err(_) => Ok(()),
        }
    }

    fn add_image(&mut self, stream: Option<&'a Stream>, state: &State) {
        if self.drawn.images.len() < MAX_IMAGES {
            let place = state.page;
            self.drawn.images.push(PlacedImage { stream, place });
        }
    }

    /// The text that tagged content gives for what it draws.
    fn actual_text(&self, resources: &'a Dictionary, operands: &[Value]) -> Option<String> {
        let properties = operands.last()?;
        let bytes = match properties {
            Value::Name(_) => {
                let properties = self
                    .resource(resources, b"Properties", operands)?
                    .as_dict()
                    .ok()?;
                get(self.document, properties, b"ActualText")?
                    .as_str()
                    .ok()?
                    .to_vec()
            }
            _ => properties.get(b"ActualText")?.string()?.to_vec(),
        };
        let object = Object::String(bytes, pdf_extract::StringFormat::Literal);
        pdf_extract::decode_text_string(&object).ok()
    }

    fn resource(
        &self,
        resources: &'a Dictionary,
        kind: &[u8],
        operands: &[Value],
    ) -> Option<&'a Object> {
        let name = operands.last()?.name()?;
        let all = font::dictionary(self.document, resources.get(kind).ok()?)?;
        get(self.document, all, name)
    }

    fn font(&mut self, resources: &'a Dictionary, name: &[u8]) -> Option<Rc<Font>> {
        let fonts = font::dictionary(self.document, resources.get(b"Font").ok()?)?;
        let entry = fonts.get(name).ok()?;
        let dictionary = font::dictionary(self.document, entry)?;
        let key = match entry {
            Object::Reference(id) => FontKey::Object(*id),
            _ => FontKey::Inline(std::ptr::from_ref(dictionary).addr()),
        };
        let PageFonts { encodings, known } = &mut self.fonts;
        let font = known
            .entry(key)
            .or_insert_with(|| Rc::new(Font::new(self.document, dictionary, encodings)));
        Some(Rc::clone(font))
    }
}

fn matrix(operands: &[Value]) -> Option<Matrix> {
    let numbers: Vec<f64> = operands
        .iter()
        .rev()
        .take(6)
        .rev()
        .filter_map(Value::number)
        .collect();
    numbers.try_into().ok().map(Matrix)
}

fn length((x, y): (f64, f64)) -> f64 {
    x.hypot(y)
}

fn unit((x, y): (f64, f64)) -> (f64, f64) {
    let length = length((x, y));
    if length > 0.0 {
        (x / length, y / length)
    } else {
        (1.0, 0.0)
    }
}
