//! PowerPoint presentations: a slide is a page, its title a heading, the speaker's notes at its end.

use super::super::protocol::{PageContent, Refusal};
use super::super::reader::{Budget, Reader};
use super::super::table::on_one_line;
use super::super::writer::Writer;
use super::super::xml::Element;
use super::numbering::{letters, roman};
use super::{Package, Relations, drawing};

pub struct Presentation {
    package: Package,
    slides: Vec<String>,
    title: Option<String>,
}

impl Presentation {
    pub fn open(bytes: Vec<u8>, budget: &Budget) -> Result<Self, Refusal> {
        let mut package = Package::open(bytes, "ppt/presentation.xml", budget)?;
        let main = package.main.clone();
        let root = package.tree(&main)?.unwrap_or_default();
        let ids = root
            .child("sldIdLst")
            .into_iter()
            .flat_map(Element::elements);
        let slides: Vec<String> = ids
            .filter_map(|id| package.relations.target(id.prefixed("id")?))
            .map(str::to_owned)
            .collect();
        if slides.is_empty() {
            return Err(Refusal::NoText("it has no slides".to_owned()));
        }
        let title = package.title();
        Ok(Self {
            package,
            slides,
            title,
        })
    }

    fn shapes(
        &mut self,
        parent: &Element,
        relations: &Relations,
        writer: &mut Writer,
    ) -> Result<(), String> {
        for shape in parent.elements() {
            match shape.name.as_str() {
                "sp" if !is_title(shape) && !is_furniture(shape) => {
                    if let Some(body) = shape.child("txBody") {
                        write_body(body, writer);
                    }
                }
                "graphicFrame" => {
                    let mut tables = Vec::new();
                    shape.all("tbl", &mut tables);
                    for table in tables {
                        write_table(table, writer);
                    }
                    drawing::write_referenced(shape, &mut self.package, relations, writer)?;
                }
                "pic" => {
                    writer.has_images = true;
                    let properties = shape.at(&["nvPicPr", "cNvPr"]);
                    if let Some(description) = properties.and_then(drawing::description) {
                        writer.paragraph(&description);
                    }
                }
                "AlternateContent" => {
                    if let Some(chosen) = shape.child("Choice").or(shape.child("Fallback")) {
                        self.shapes(chosen, relations, writer)?;
                    }
                }
                "grpSp" | "spTree" | "cSld" => self.shapes(shape, relations, writer)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn notes(&mut self, relations: &Relations) -> Result<Vec<String>, String> {
        let Some(part) = relations.of_kind("notesSlide") else {
            return Ok(Vec::new());
        };
        let Some(notes) = self.package.tree(part)? else {
            return Ok(Vec::new());
        };
        let mut shapes = Vec::new();
        notes.all("sp", &mut shapes);
        let bodies = shapes
            .into_iter()
            .filter(|shape| placeholder(shape) == Some("body"));
        let mut paragraphs = Vec::new();
        for body in bodies.filter_map(|shape| shape.child("txBody")) {
            paragraphs.extend(body.elements().filter(|it| it.name == "p"));
        }
        let lines = paragraphs.into_iter().map(drawing::paragraph);
        Ok(lines.filter(|line| !line.trim().is_empty()).collect())
    }
}

impl Reader for Presentation {
    fn num_pages(&self) -> u32 {
        self.slides.len() as u32
    }

    fn title(&self) -> Option<String> {
        self.title.clone()
    }

    fn page(&mut self, number: u32) -> Result<PageContent, String> {
        let part = self.slides[number as usize - 1].clone();
        let slide = self.package.tree(&part)?;
        let slide = slide.ok_or_else(|| format!("its part {part:?} is missing"))?;
        let relations = self.package.relations_of(&part)?;
        let mut writer = Writer::default();
        let title = title(&slide);
        // Every slide has a heading, or its words would count as the slide's before.
        let has_title = title.is_some();
        writer.heading(1, &title.unwrap_or_else(|| format!("Slide {number}")));
        if let Some(content) = slide.child("cSld") {
            self.shapes(content, &relations, &mut writer)?;
        }
        let notes = self.notes(&relations)?;
        if !notes.is_empty() {
            writer.end_block();
            writer.line("Notes:");
            for line in notes {
                writer.line(&line);
            }
        }
        match has_title || !writer.has_only_heading() {
            true => writer.finish(),
            false => Ok(writer.without_words()),
        }
    }
}

fn title(slide: &Element) -> Option<String> {
    let mut shapes = Vec::new();
    slide.all("sp", &mut shapes);
    let titles = shapes.into_iter().filter(|shape| is_title(shape));
    let title = titles
        .filter_map(|shape| shape.child("txBody"))
        .map(drawing::words);
    let title = title
        .filter(|words| !words.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    (!title.is_empty()).then_some(title)
}

fn placeholder(shape: &Element) -> Option<&str> {
    let placeholder = shape.at(&["nvSpPr", "nvPr", "ph"])?;
    Some(placeholder.attribute("type").unwrap_or("obj"))
}

fn is_title(shape: &Element) -> bool {
    matches!(placeholder(shape), Some("title" | "ctrTitle"))
}

/// What stands on every slide.
fn is_furniture(shape: &Element) -> bool {
    matches!(placeholder(shape), Some("sldNum" | "dt" | "ftr" | "hdr"))
}

fn write_body(body: &Element, writer: &mut Writer) {
    writer.end_block();
    let mut numbers = Numbers::default();
    for paragraph in body.elements().filter(|it| it.name == "p") {
        let text = drawing::paragraph(paragraph);
        if text.trim().is_empty() {
            continue;
        }
        let properties = paragraph.child("pPr");
        let level: usize = properties
            .and_then(|it| it.attribute("lvl")?.parse().ok())
            .unwrap_or(0);
        let has_bullet = properties.is_some_and(|it| it.child("buChar").is_some());
        let number = numbers.next(level, properties.and_then(|it| it.child("buAutoNum")));
        let indent = "  ".repeat(level.min(8));
        writer.line(&match number {
            Some(number) => format!("{indent}{number} {}", text.trim()),
            None if has_bullet || level > 0 => format!("{indent}- {}", text.trim()),
            None => text,
        });
    }
    writer.end_block();
}

/// Counts the paragraphs of a shape that are numbered, as PowerPoint does: at each level by itself, until something else
/// stands there (ECMA-376 part 1, 21.1.2.4.1).
#[derive(Default)]
struct Numbers(Vec<Option<(String, u32)>>);

impl Numbers {
    fn next(&mut self, level: usize, numbered: Option<&Element>) -> Option<String> {
        const MAX_LEVELS: usize = 9;
        let level = level.min(MAX_LEVELS - 1);
        self.0.resize(level + 1, None);
        let last = self.0[level].take();
        let numbered = numbered?;
        let style = numbered.attribute("type").unwrap_or("arabicPeriod");
        let start = numbered.attribute("startAt").and_then(|it| it.parse().ok());
        let number = match last {
            Some((before, number)) if before == style => number.saturating_add(1),
            _ => start.unwrap_or(1),
        };
        self.0[level] = Some((style.to_owned(), number));
        let shown = if style.starts_with("alphaLc") {
            letters(number).to_lowercase()
        } else if style.starts_with("alphaUc") {
            letters(number)
        } else if style.starts_with("romanLc") {
            roman(number).to_lowercase()
        } else if style.starts_with("romanUc") {
            roman(number)
        } else {
            number.to_string()
        };
        Some(if style.ends_with("ParenBoth") {
            format!("({shown})")
        } else if style.ends_with("ParenR") {
            format!("{shown})")
        } else if style.ends_with("Plain") {
            shown
        } else {
            format!("{shown}.")
        })
    }
}

fn write_table(table: &Element, writer: &mut Writer) {
    writer.end_block();
    for row in table.elements().filter(|it| it.name == "tr") {
        let cells = row.elements().filter(|it| it.name == "tc");
        let cells: Vec<String> = cells
            .map(|cell| on_one_line(&drawing::words(cell)))
            .collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            writer.line(cells.join(" | ").trim());
        }
    }
    writer.end_block();
}
