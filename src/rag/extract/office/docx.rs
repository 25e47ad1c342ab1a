//! Word documents: paragraphs, headings, lists and tables in the order in which they are read. Shows the document with
//! all tracked changes accepted, and nothing that Word hides.

use std::collections::HashMap;

use super::super::protocol::{PageContent, Refusal};
use super::super::reader::{Budget, Whole};
use super::super::table::on_one_line;
use super::super::writer::{LAID_OUT_MARK, PAGE_MARK, Writer};
use super::super::xml::{Element, Event, Node, Xml};
use super::numbering::Numbering;
use super::styles::Styles;
use super::{Package, drawing, math};

pub fn open(bytes: Vec<u8>, budget: &Budget) -> Result<Whole, Refusal> {
    let mut package = Package::open(bytes, "word/document.xml", budget)?;
    let title = package.title();
    let styles = package.part_of_kind("styles")?;
    let numbering = package.part_of_kind("numbering")?;
    let mut notes = HashMap::new();
    for kind in ["footnote", "endnote"] {
        if let Some(part) = package.part_of_kind(&format!("{kind}s"))? {
            for note in part
                .elements()
                .filter(|note| note.attribute("type").is_none())
            {
                let id = note.attribute("id").unwrap_or_default();
                notes.insert(format!("{kind}{id}"), note_text(note));
            }
        }
    }
    let main = package.main.clone();
    let source = package.archive.read_xml(&main)?.unwrap_or_default();
    let mut document = Document {
        package,
        styles: styles.as_ref().map(Styles::new).unwrap_or_default(),
        numbering: numbering.as_ref().map(Numbering::new).unwrap_or_default(),
        notes,
        num_notes: 0,
        title: None,
        writer: Writer::default(),
    };
    document.read(&source, &main)?;
    let content: PageContent = document.writer.finish()?;
    if content.text.is_empty() {
        let reason = "there are no words in it; if it shows scanned pages, save it as a PDF, whose pages can be recognised";
        return Err(Refusal::NoText(reason.to_owned()));
    }
    Ok(Whole::new(title.or(document.title), content))
}

struct Document {
    package: Package,
    styles: Styles,
    numbering: Numbering,
    notes: HashMap<String, String>,
    num_notes: usize,
    title: Option<String>,
    writer: Writer,
}

/// The words of a paragraph, and what hangs on them.
#[derive(Default)]
struct Inline<'e> {
    text: String,
    text_boxes: Vec<&'e Element>,
    drawings: Vec<&'e Element>,
    /// Notes that it refers to, with their numbers.
    notes: Vec<(usize, String)>,
}

impl Document {
    /// Block by block, so that only one is in memory as a tree.
    fn read(&mut self, source: &str, member: &str) -> Result<(), String> {
        let mut xml = Xml::new(source, member);
        while let Some(event) = xml.next()? {
            match event {
                Event::Open(element) if matches!(element.name.as_str(), "document" | "body") => {}
                Event::Open(element) if element.name == "background" => xml.skip()?,
                Event::Open(element) => {
                    let block = xml.rest_of(element)?;
                    self.block(&block)?;
                }
                Event::Close | Event::Text(_) => {}
            }
        }
        Ok(())
    }

    fn blocks(&mut self, parent: &Element) -> Result<(), String> {
        parent.elements().try_for_each(|block| self.block(block))
    }

    fn block(&mut self, block: &Element) -> Result<(), String> {
        match block.name.as_str() {
            "p" => self.paragraph(block),
            "tbl" => self.table(block),
            "del" | "moveFrom" | "sectPr" | "sdtPr" | "sdtEndPr" | "tcPr" | "customXmlPr" => Ok(()),
            "AlternateContent" => match chosen(block) {
                Some(chosen) => self.blocks(chosen),
                None => Ok(()),
            },
            "oMathPara" | "oMath" => {
                self.writer.paragraph(&math::line(block));
                Ok(())
            }
            _ => self.blocks(block),
        }
    }

    fn paragraph(&mut self, paragraph: &Element) -> Result<(), String> {
        let properties = paragraph.child("pPr");
        if properties.is_some_and(|it| it.is_on("pageBreakBefore")) {
            self.writer.new_page();
        }
        let inline = self.inline(paragraph);
        let level = self.styles.heading_level(properties);
        let is_title = self.styles.is_title(properties);
        let label = match self.styles.list(properties) {
            Some((list, level)) if !inline.text.trim().is_empty() => {
                let label = self.numbering.next_label(&list, level);
                Some((label, level))
            }
            _ => None,
        };
        if is_title && self.title.is_none() {
            let title = on_one_line(&inline.text);
            self.title = (!title.is_empty()).then_some(title);
        }
        match (level.or(is_title.then_some(1)), label) {
            (Some(level), label) => {
                let label = label.map(|(label, _)| label).filter(|label| label != "- ");
                let title = label.unwrap_or_default() + &inline.text;
                self.writer.heading(level, &title);
            }
            (None, Some((label, level))) => {
                let indent = "  ".repeat(level);
                let text = inline.text.trim();
                self.writer.line(&format!("{indent}{label}{text}"));
            }
            (None, None) => self.writer.paragraph(&inline.text),
        }
        self.write_beside(inline)
    }

    /// What belongs to a paragraph and stands under it.
    fn write_beside(&mut self, inline: Inline<'_>) -> Result<(), String> {
        for (number, note) in inline.notes {
            self.writer.line(&format!("[^{number}]: {note}"));
        }
        for text_box in inline.text_boxes {
            self.writer.end_block();
            self.blocks(text_box)?;
        }
        if !inline.drawings.is_empty() {
            let main = self.package.main.clone();
            let relations = self.package.relations_of(&main)?;
            for frame in inline.drawings {
                drawing::write_referenced(frame, &mut self.package, &relations, &mut self.writer)?;
            }
        }
        Ok(())
    }

    fn table(&mut self, table: &Element) -> Result<(), String> {
        let mut rows = Vec::new();
        collect(table, "tr", &mut rows);
        rows.retain(|row| row.child("trPr").is_none_or(|it| it.child("del").is_none()));
        let rows: Vec<(&Element, Vec<&Element>)> = rows
            .into_iter()
            .map(|row| {
                let mut cells = Vec::new();
                collect(row, "tc", &mut cells);
                (row, cells)
            })
            .collect();
        self.writer.end_block();
        if rows.iter().all(|(_, cells)| cells.len() < 2) {
            // One column is a frame around running text.
            for cell in rows.into_iter().flat_map(|(_, cells)| cells) {
                self.blocks(cell)?;
            }
        } else {
            let mut above = HashMap::new();
            for (row, cells) in rows {
                self.row(row, &cells, &mut above)?;
            }
        }
        self.writer.end_block();
        Ok(())
    }

    /// A cell that spans rows has its text in each: a row must be understood alone. `above` holds the texts by column.
    fn row(
        &mut self,
        row: &Element,
        cells: &[&Element],
        above: &mut HashMap<usize, String>,
    ) -> Result<(), String> {
        let mut beside = Inline::default();
        // A row may begin some columns late.
        const MAX_LATE: usize = 64;
        let late = row
            .child("trPr")
            .and_then(|it| it.value_of("gridBefore")?.parse().ok());
        let mut column: usize = late.unwrap_or(0);
        let mut texts = vec![String::new(); column.min(MAX_LATE)];
        let is_mark = |c: char| matches!(c, PAGE_MARK | LAID_OUT_MARK);
        // Cells beside one another may all go on on the next page, but it is one page.
        let (mut num_pages_before, mut num_pages_in) = (0, 0);
        for cell in cells {
            let properties = cell.child("tcPr");
            let mut text = String::new();
            self.cell(cell, &mut text, &mut beside);
            let words_at = text
                .find(|c: char| !c.is_whitespace())
                .unwrap_or(text.len());
            let (before, inside) = text.split_at(words_at);
            num_pages_before = before.matches(is_mark).count().max(num_pages_before);
            num_pages_in = inside.matches(is_mark).count().max(num_pages_in);
            let mut text = on_one_line(&text.replace(is_mark, " "));
            if properties.is_some_and(goes_on) {
                text = above.get(&column).cloned().unwrap_or_default();
            } else {
                above.insert(column, text.clone());
            }
            texts.push(text);
            let span = properties.and_then(|it| it.value_of("gridSpan")?.parse().ok());
            column = column.saturating_add(span.unwrap_or(1));
        }
        (0..num_pages_before).for_each(|_| self.writer.laid_out_page());
        if texts.iter().any(|text| !text.is_empty()) {
            self.writer.line(texts.join(" | ").trim());
        }
        (0..num_pages_in).for_each(|_| self.writer.laid_out_page());
        self.write_beside(beside)
    }

    /// A cell's text; a table inside has its rows one after another.
    fn cell<'e>(&mut self, cell: &'e Element, text: &mut String, beside: &mut Inline<'e>) {
        for block in cell.elements() {
            match block.name.as_str() {
                "p" => {
                    let inline = self.inline(block);
                    if !inline.text.trim().is_empty() {
                        if let Some((list, level)) = self.styles.list(block.child("pPr")) {
                            text.push_str(&self.numbering.next_label(&list, level));
                        }
                        text.push_str(&inline.text);
                    }
                    text.push('\n');
                    beside.text_boxes.extend(inline.text_boxes);
                    beside.drawings.extend(inline.drawings);
                    beside.notes.extend(inline.notes);
                }
                "tr" => {
                    self.cell(block, text, beside);
                    text.push_str("; ");
                }
                "del" | "moveFrom" | "tcPr" | "trPr" | "tblPr" | "sdtPr" => {}
                _ => self.cell(block, text, beside),
            }
        }
    }

    fn inline<'e>(&mut self, paragraph: &'e Element) -> Inline<'e> {
        let mut inline = Inline::default();
        self.add_inline(paragraph, &mut inline);
        inline
    }

    fn add_inline<'e>(&mut self, parent: &'e Element, out: &mut Inline<'e>) {
        for element in parent.elements() {
            match element.name.as_str() {
                "t" => out.text.push_str(&element.text()),
                "tab" | "ptab" => out.text.push('\t'),
                "br" if element.attribute("type") == Some("page") => {
                    out.text.push('\n');
                    out.text.push(PAGE_MARK);
                }
                "br" | "cr" => out.text.push('\n'),
                "lastRenderedPageBreak" => out.text.push(LAID_OUT_MARK),
                "noBreakHyphen" => out.text.push('-'),
                "sym" => out.text.extend(symbol(element)),
                "r" if is_hidden(element) => {}
                "pPr" | "rPr" | "del" | "moveFrom" | "delText" | "instrText" | "delInstrText"
                | "sdtPr" | "sdtEndPr" | "rt" | "rubyPr" | "fldData" | "binData" | "ffData" => {}
                "footnoteReference" | "endnoteReference" => self.add_note(element, out),
                "AlternateContent" => {
                    if let Some(chosen) = chosen(element) {
                        self.add_inline(chosen, out);
                    }
                }
                "txbxContent" => out.text_boxes.push(element),
                "oMath" | "oMathPara" => out.text.push_str(&math::line(element)),
                "docPr" => out.text.extend(drawing::description(element)),
                "chart" | "relIds" => out.drawings.push(parent),
                _ => self.add_inline(element, out),
            }
        }
    }

    fn add_note(&mut self, reference: &Element, out: &mut Inline<'_>) {
        let kind = reference.name.trim_end_matches("Reference");
        let id = reference.attribute("id").unwrap_or_default();
        if let Some(note) = self.notes.get(&format!("{kind}{id}")) {
            self.num_notes += 1;
            out.text.push_str(&format!("[^{}]", self.num_notes));
            out.notes.push((self.num_notes, note.clone()));
        }
    }
}

/// The elements of that name, in whatever stands around them, but not in others of that name.
fn collect<'e>(parent: &'e Element, name: &str, found: &mut Vec<&'e Element>) {
    for element in parent.elements() {
        match element.name.as_str() {
            here if here == name => found.push(element),
            "sdt" | "sdtContent" | "ins" | "moveTo" | "customXml" | "smartTag" => {
                collect(element, name, found);
            }
            _ => {}
        }
    }
}

/// Whether a cell is the lower part of one that spans rows.
fn goes_on(properties: &Element) -> bool {
    let merged = properties.child("vMerge");
    merged.is_some_and(|it| it.attribute("val") != Some("restart"))
}

/// Of alternatives that say the same, the one that is meant for programs of today.
fn chosen(alternatives: &Element) -> Option<&Element> {
    alternatives
        .child("Choice")
        .or_else(|| alternatives.child("Fallback"))
}

fn is_hidden(run: &Element) -> bool {
    run.child("rPr")
        .is_some_and(|it| it.is_on("vanish") || it.child("del").is_some())
}

/// A character by its code; those of symbol fonts have no meaning outside of their font.
fn symbol(element: &Element) -> Option<char> {
    const SYMBOL_FONTS: [&str; 3] = ["symbol", "wingdings", "webdings"];
    let font = element.attribute("font").unwrap_or_default().to_lowercase();
    if SYMBOL_FONTS.iter().any(|name| font.starts_with(name)) {
        return None;
    }
    let code = u32::from_str_radix(element.attribute("char")?, 16).ok()?;
    char::from_u32(code).filter(|_| !(0xf000..=0xf0ff).contains(&code))
}

fn note_text(note: &Element) -> String {
    let mut out = String::new();
    add_plain(note, &mut out);
    on_one_line(&out)
}

/// The words of a note, which has no lists, pages or notes of its own.
fn add_plain(element: &Element, out: &mut String) {
    for node in &element.children {
        let Node::Element(child) = node else { continue };
        match child.name.as_str() {
            "t" => out.push_str(&child.text()),
            "tab" | "br" | "cr" => out.push(' '),
            "noBreakHyphen" => out.push('-'),
            "del" | "moveFrom" | "pPr" | "rPr" | "instrText" | "delText" => {}
            "r" if is_hidden(child) => {}
            "oMath" | "oMathPara" => out.push_str(&math::line(child)),
            "p" => {
                add_plain(child, out);
                out.push(' ');
            }
            _ => add_plain(child, out),
        }
    }
}
