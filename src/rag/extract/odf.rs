//! OpenDocument texts, spreadsheets and presentations: paragraphs in order, sheets and slides as pages. Shows the
//! document with all tracked changes accepted.

mod cells;
mod formula;
mod numbering;
mod words;

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::archive::Archive;
use super::protocol::{PageContent, Refusal};
use super::reader::{Budget, Reader};
use super::table::{Table, on_one_line, uncounted};
use super::writer::{LAID_OUT_MARK, Writer};
use super::xml::{Element, Event, Node, Xml};
use cells::{cells, collect_rows, shapes, sheet_row};
use numbering::Numbering;
use words::{add_collapsed, collect_paragraphs, plain};

pub struct Document {
    title: Option<String>,
    source: String,
    parts: Parts,
    content: Content,
}

/// What is read in one go.
enum Parts {
    /// A text, whose pages are found as it is read.
    Whole,
    /// The bytes of each sheet or slide.
    Each(Vec<Range<usize>>),
}

const CONTENT: &str = "content.xml";

pub fn open(bytes: Vec<u8>, budget: &Budget) -> Result<Document, Refusal> {
    let mut archive = Archive::open(bytes, budget)?;
    let manifest = archive
        .read_xml("META-INF/manifest.xml")?
        .unwrap_or_default();
    if manifest.contains("encryption-data") {
        return Err(Refusal::Encrypted);
    }
    let title = title(&mut archive);
    let source = archive
        .read_xml(CONTENT)?
        .ok_or_else(|| Refusal::Invalid(format!("its part {CONTENT:?} is missing")))?;
    let mut content = Content {
        formulas: formula::all(&mut archive),
        ..Content::default()
    };
    if let Some(styles) = archive.read_xml("styles.xml").ok().flatten()
        && let Ok(root) = super::xml::tree(&styles, "styles.xml")
    {
        let mut lists = Vec::new();
        root.all("list-style", &mut lists);
        lists
            .into_iter()
            .for_each(|style| content.numbering.add_style(style));
    }
    let parts = content.parts(&source)?;
    Ok(Document {
        title,
        source,
        parts,
        content,
    })
}

impl Reader for Document {
    fn num_pages(&self) -> u32 {
        match &self.parts {
            Parts::Whole => 1,
            Parts::Each(spans) => spans.len() as u32,
        }
    }

    fn title(&self) -> Option<String> {
        self.title.clone()
    }

    fn page(&mut self, number: u32) -> Result<PageContent, String> {
        let span = match &self.parts {
            Parts::Whole => 0..self.source.len(),
            Parts::Each(spans) => spans[number as usize - 1].clone(),
        };
        self.content.number = number;
        self.content.writer = Writer::default();
        self.content.read(&self.source[span])
    }
}

fn title(archive: &mut Archive) -> Option<String> {
    let source = archive.read_xml("meta.xml").ok()??;
    let root = super::xml::tree(&source, "meta.xml").ok()?;
    let title = on_one_line(&root.at(&["meta", "title"])?.text());
    (!title.is_empty()).then_some(title)
}

#[derive(Default)]
struct Content {
    writer: Writer,
    /// The names of styles that begin a page.
    page_styles: HashSet<String>,
    numbering: Numbering,
    /// By the name of their member.
    formulas: HashMap<String, String>,
    num_notes: usize,
    /// Of the sheet or slide that is being read.
    number: u32,
    /// The same element is a sheet there and a table in a text.
    is_spreadsheet: bool,
}

impl Content {
    /// Finds the sheets or slides, and the styles, without reading what stands in them.
    fn parts(&mut self, source: &str) -> Result<Parts, String> {
        let mut xml = Xml::new(source, CONTENT);
        let mut spans = Vec::new();
        let mut is_text = true;
        loop {
            let start = xml.position();
            let Some(event) = xml.next()? else { break };
            let Event::Open(element) = event else {
                continue;
            };
            match element.name.as_str() {
                "document-content" | "body" | "automatic-styles" => {}
                "presentation" => is_text = false,
                "spreadsheet" => {
                    is_text = false;
                    self.is_spreadsheet = true;
                }
                "style" => {
                    let style = xml.rest_of(element)?;
                    self.style(&style);
                }
                "list-style" => {
                    let style = xml.rest_of(element)?;
                    self.numbering.add_style(&style);
                }
                "table" | "page" if !is_text => {
                    xml.skip()?;
                    spans.push(start..xml.position());
                }
                _ => xml.skip()?,
            }
        }
        Ok(match is_text {
            true => Parts::Whole,
            false => Parts::Each(spans),
        })
    }

    /// A whole text, or one sheet or slide. Block by block, and sheets row by row, so that only one is in memory as a tree.
    fn read(&mut self, source: &str) -> Result<PageContent, String> {
        let mut xml = Xml::new(source, CONTENT);
        while let Some(event) = xml.next()? {
            let Event::Open(element) = event else {
                continue;
            };
            match element.name.as_str() {
                "document-content" | "body" | "text" => {}
                "automatic-styles" => xml.skip()?,
                "table" if self.is_spreadsheet => self.sheet(&element, &mut xml)?,
                "page" => {
                    let slide = xml.rest_of(element)?;
                    self.slide(&slide);
                }
                _ => {
                    let block = xml.rest_of(element)?;
                    self.block(&block);
                }
            }
        }
        std::mem::take(&mut self.writer).finish()
    }

    fn style(&mut self, style: &Element) {
        let properties = style.child("paragraph-properties");
        let breaks = properties.and_then(|it| it.attribute("break-before"));
        if breaks == Some("page") {
            self.page_styles
                .extend(style.attribute("name").map(str::to_owned));
        }
    }

    fn block(&mut self, block: &Element) {
        match block.name.as_str() {
            "h" => {
                self.begin(block);
                let level = block
                    .attribute("outline-level")
                    .and_then(|it| it.parse().ok());
                let inline = self.inline(block);
                self.writer.heading(level.unwrap_or(1), &inline.text);
                self.write_beside(inline);
            }
            "p" => {
                self.begin(block);
                let inline = self.inline(block);
                self.writer.paragraph(&inline.text);
                self.write_beside(inline);
            }
            "list" => {
                self.writer.end_block();
                self.list(block, 0, "");
                self.writer.end_block();
            }
            "table" => self.table(block),
            "soft-page-break" => self.writer.laid_out_page(),
            "tracked-changes"
            | "annotation"
            | "sequence-decls"
            | "variable-decls"
            | "user-field-decls"
            | "forms"
            | "font-face-decls"
            | "scripts"
            | "styles"
            | "master-styles"
            | "index-title-template"
            | "settings" => {}
            name if name.ends_with("-source") || name.ends_with("-style") => {}
            _ => block.elements().for_each(|child| self.block(child)),
        }
    }

    /// A paragraph whose style begins a page.
    fn begin(&mut self, block: &Element) {
        let style = block.attribute("style-name").unwrap_or_default();
        if self.page_styles.contains(style) {
            self.writer.new_page();
        }
    }

    /// `style` is that of the list outside, which one that names none has too.
    fn list(&mut self, list: &Element, level: usize, style: &str) {
        let outside = style;
        let style = list.attribute("style-name").unwrap_or(outside);
        if style != outside {
            self.numbering.begin(list);
        }
        for item in list.elements() {
            let mut mark = match item.name.as_str() {
                "list-item" => self.numbering.mark(style, level, item),
                "list-header" => String::new(),
                _ => continue,
            };
            for part in item.elements() {
                match part.name.as_str() {
                    "p" => {
                        let inline = self.inline(part);
                        if !inline.text.trim().is_empty() {
                            let indent = "  ".repeat(level.min(8));
                            self.writer
                                .line(&format!("{indent}{mark}{}", inline.text.trim()));
                            mark = "  ".to_owned();
                        }
                        self.write_beside(inline);
                    }
                    "list" => self.list(part, level + 1, style),
                    _ => self.block(part),
                }
            }
        }
    }

    /// A table in running text.
    fn table(&mut self, table: &Element) {
        let mut rows = Vec::new();
        collect_rows(table, &mut rows);
        self.writer.end_block();
        let is_frame = rows.iter().all(|row| cells(row).count() < 2);
        for row in rows {
            if is_frame {
                for cell in cells(row) {
                    cell.elements().for_each(|block| self.block(block));
                }
                continue;
            }
            let mut beside = Inline::default();
            let texts: Vec<String> = cells(row)
                .map(|cell| self.cell(cell, &mut beside))
                .collect();
            if texts.iter().any(|text| !text.is_empty()) {
                self.writer.line(texts.join(" | ").trim());
            }
            self.write_beside(beside);
        }
        self.writer.end_block();
    }

    fn cell<'e>(&mut self, cell: &'e Element, beside: &mut Inline<'e>) -> String {
        let mut paragraphs = Vec::new();
        collect_paragraphs(cell, &mut paragraphs);
        let mut text = String::new();
        for paragraph in paragraphs {
            let inline = self.inline(paragraph);
            text.push_str(&inline.text.replace(LAID_OUT_MARK, " "));
            text.push('\n');
            beside.notes.extend(inline.notes);
            beside.text_boxes.extend(inline.text_boxes);
        }
        on_one_line(&text)
    }

    fn write_beside(&mut self, inline: Inline<'_>) {
        for (number, note) in inline.notes {
            self.writer.line(&format!("[^{number}]: {note}"));
        }
        for text_box in inline.text_boxes {
            self.writer.end_block();
            match text_box.name.as_str() {
                "table" => self.table(text_box),
                _ => text_box.elements().for_each(|block| self.block(block)),
            }
        }
    }

    fn inline<'e>(&mut self, paragraph: &'e Element) -> Inline<'e> {
        let mut inline = Inline::default();
        self.add_inline(paragraph, &mut inline);
        inline
    }

    fn add_inline<'e>(&mut self, parent: &'e Element, out: &mut Inline<'e>) {
        const MAX_SPACES: usize = 100;
        for node in &parent.children {
            let element = match node {
                Node::Text(words) => {
                    add_collapsed(words, &mut out.text);
                    continue;
                }
                Node::Element(element) => element,
            };
            match element.name.as_str() {
                "s" => {
                    let count = element.attribute("c").and_then(|it| it.parse().ok());
                    let count: usize = count.unwrap_or(1);
                    out.text
                        .extend(std::iter::repeat_n(' ', count.min(MAX_SPACES)));
                }
                "tab" => out.text.push('\t'),
                "line-break" => out.text.push('\n'),
                "soft-page-break" => out.text.push(LAID_OUT_MARK),
                "note" => {
                    self.num_notes += 1;
                    out.text.push_str(&format!("[^{}]", self.num_notes));
                    let note = element.child("note-body").map(plain).unwrap_or_default();
                    out.notes.push((self.num_notes, note));
                }
                "text-box" | "table" => out.text_boxes.push(element),
                "image" => {}
                "frame" => {
                    self.writer.has_images |= element.child("image").is_some();
                    out.text.extend(description(element));
                    out.text.extend(self.formula(element));
                    self.add_inline(element, out);
                }
                "annotation" | "annotation-end" | "title" | "desc" | "tracked-changes"
                | "ruby-text" => {}
                // A shape with paragraphs of its own.
                _ if element.child("p").is_some() || element.child("list").is_some() => {
                    out.text_boxes.push(element);
                }
                _ => self.add_inline(element, out),
            }
        }
    }

    fn formula(&self, frame: &Element) -> Option<String> {
        let member = frame.child("object")?.attribute("href")?;
        let formula = self.formulas.get(member.trim_start_matches("./"))?;
        Some(formula.clone())
    }

    fn slide(&mut self, slide: &Element) {
        let title = slide.elements().filter(|it| is_of_class(it, "title"));
        let title = title.map(plain).collect::<Vec<_>>().join(" ");
        let has_title = !title.trim().is_empty();
        let title = match has_title {
            false => format!("Slide {}", self.number),
            true => title,
        };
        self.writer.heading(1, &title);
        for shape in slide.elements() {
            match shape.name.as_str() {
                "notes" => {
                    let notes = shape.elements().filter(|it| is_of_class(it, "notes"));
                    let notes = notes.map(plain).collect::<Vec<_>>().join(" ");
                    if !notes.is_empty() {
                        self.writer.paragraph(&format!("Notes:\n{notes}"));
                    }
                }
                "frame" if is_of_class(shape, "title") => {}
                "forms" => {}
                _ => self.shape(shape),
            }
        }
        if !has_title && self.writer.has_only_heading() {
            let has_images = self.writer.has_images;
            self.writer = Writer::default();
            self.writer.has_images = has_images;
        }
    }

    /// What a shape shows: its paragraphs and tables, those of the shapes in it, and the description of its picture.
    fn shape(&mut self, shape: &Element) {
        self.writer.has_images |= shape.child("image").is_some();
        if let Some(description) = description(shape) {
            self.writer.paragraph(&description);
        }
        for part in shape.elements() {
            match part.name.as_str() {
                "p" | "h" | "list" | "table" => self.block(part),
                // The picture of a table or chart that stands beside it, for programs that do not know it.
                "image" | "title" | "desc" | "event-listeners" | "glue-point" => {}
                _ => self.shape(part),
            }
        }
    }

    fn sheet(&mut self, sheet: &Element, xml: &mut Xml<'_>) -> Result<(), String> {
        self.writer
            .heading(1, sheet.attribute("name").unwrap_or("Sheet"));
        let mut table = Table::default();
        let mut num_uncounted = 0;
        // What lies on the sheet comes after its cells.
        let mut drawn = Vec::new();
        let mut depth = 0;
        while let Some(event) = xml.next()? {
            match event {
                Event::Open(element) if element.name == "table-row" => {
                    let row = xml.rest_of(element)?;
                    num_uncounted += sheet_row(&row, &mut table, &mut self.writer);
                    if cells(&row).any(|cell| shapes(cell).next().is_some()) {
                        drawn.push(row);
                    }
                }
                Event::Open(element) if element.name == "shapes" => {
                    drawn.push(xml.rest_of(element)?);
                }
                Event::Open(element)
                    if matches!(
                        element.name.as_str(),
                        "table-row-group" | "table-header-rows" | "table-rows"
                    ) =>
                {
                    depth += 1;
                }
                Event::Open(_) => xml.skip()?,
                Event::Close if depth == 0 => break,
                Event::Close => depth -= 1,
                Event::Text(_) => {}
            }
        }
        table.finish(&mut self.writer);
        self.writer.unread.extend(uncounted(num_uncounted));
        for parent in &drawn {
            match parent.name.as_str() {
                "shapes" => shapes(parent).for_each(|shape| self.shape(shape)),
                _ => cells(parent)
                    .flat_map(shapes)
                    .for_each(|shape| self.shape(shape)),
            }
        }
        if self.writer.has_only_heading() {
            self.writer = Writer::default();
        }
        Ok(())
    }
}

/// The part that a frame plays on its slide.
fn is_of_class(frame: &Element, class: &str) -> bool {
    frame.attribute("class") == Some(class)
}

/// What is said of a picture for those who do not see it.
fn description(frame: &Element) -> Option<String> {
    let mut texts = ["desc", "title"]
        .iter()
        .filter_map(|name| frame.child(name));
    let words = texts.find_map(|text| Some(plain(text)).filter(|it| !it.is_empty()))?;
    Some(format!("[Image: {words}]"))
}

/// The words of a paragraph, and what hangs on them.
#[derive(Default)]
struct Inline<'e> {
    text: String,
    text_boxes: Vec<&'e Element>,
    notes: Vec<(usize, String)>,
}
