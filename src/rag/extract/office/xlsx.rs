//! Excel workbooks: a sheet is a page with its name as heading, a row a line. Values are shown as Excel shows them.

use super::super::protocol::{PageContent, Refusal};
use super::super::reader::{Budget, Reader};
use super::super::table::{Cell, Table, on_one_line, uncounted};
use super::super::writer::Writer;
use super::super::xml::{Element, Event, Xml};
use super::Package;
use super::number_format::NumberFormat;

pub struct Workbook {
    package: Package,
    sheets: Vec<Sheet>,
    title: Option<String>,
    shared: Vec<String>,
    /// By the style of a cell.
    formats: Vec<NumberFormat>,
    counts_from_1904: bool,
}

struct Sheet {
    name: String,
    part: Option<String>,
}

impl Workbook {
    pub fn open(bytes: Vec<u8>, budget: &Budget) -> Result<Self, Refusal> {
        let mut package = Package::open(bytes, "xl/workbook.xml", budget)?;
        let main = package.main.clone();
        let root = package.tree(&main)?.unwrap_or_default();
        let listed = root.child("sheets").into_iter().flat_map(Element::elements);
        let sheets: Vec<Sheet> = listed
            .map(|sheet| Sheet {
                name: on_one_line(sheet.attribute("name").unwrap_or_default()),
                part: sheet
                    .prefixed("id")
                    .and_then(|id| package.relations.target(id))
                    .map(str::to_owned),
            })
            .collect();
        if sheets.is_empty() {
            return Err(Refusal::NoText("it has no sheets".to_owned()));
        }
        let shared = match package
            .relations
            .of_kind("sharedStrings")
            .map(str::to_owned)
        {
            Some(part) => shared_strings(&mut package, &part)?,
            None => Vec::new(),
        };
        let formats = package.part_of_kind("styles")?;
        Ok(Self {
            title: package.title(),
            sheets,
            shared,
            formats: formats.as_ref().map(formats_of).unwrap_or_default(),
            counts_from_1904: root
                .child("workbookPr")
                .and_then(|it| it.attribute("date1904"))
                .is_some_and(|value| matches!(value, "1" | "true")),
            package,
        })
    }

    /// A cell as Excel shows it, and whether it holds words.
    fn shown(&self, cell: &Element) -> (String, bool) {
        let value = || cell.child("v").map(Element::text).unwrap_or_default();
        match cell.attribute("t").unwrap_or("n") {
            "s" => {
                let index: Option<usize> = value().trim().parse().ok();
                let text = index.and_then(|index| self.shared.get(index));
                (text.cloned().unwrap_or_default(), true)
            }
            "inlineStr" => (cell.child("is").map(rich_text).unwrap_or_default(), true),
            "str" => (unescaped(&value()), true),
            "b" => {
                let is_true = matches!(value().trim(), "1" | "true");
                (if is_true { "TRUE" } else { "FALSE" }.to_owned(), false)
            }
            "e" => (value(), false),
            "d" => (value().replace("T00:00:00", ""), false),
            _ => {
                let value = value();
                let style: usize = cell
                    .attribute("s")
                    .and_then(|it| it.parse().ok())
                    .unwrap_or(0);
                let text = match (value.trim().parse::<f64>(), self.formats.get(style)) {
                    (Ok(number), Some(format)) => format.shown(number, self.counts_from_1904),
                    (Ok(number), None) => NumberFormat::general().shown(number, false),
                    (Err(_), _) => value,
                };
                (text, false)
            }
        }
    }

    fn write_rows(&self, source: &str, part: &str, writer: &mut Writer) -> Result<(), String> {
        let mut xml = Xml::new(source, part);
        let mut table = Table::default();
        let mut last_row = 0;
        let mut num_uncounted = 0;
        while let Some(event) = xml.next()? {
            let Event::Open(element) = event else {
                continue;
            };
            match element.name.as_str() {
                "worksheet" | "sheetData" => {}
                "row" => {
                    let number = element.attribute("r").and_then(|it| it.parse().ok());
                    let number: u64 = number.unwrap_or(last_row + 1);
                    let row = xml.rest_of(element)?;
                    // Rows without any cell are not in the file.
                    if number > last_row + 1 {
                        table.row(Vec::new(), writer);
                    }
                    last_row = number;
                    table.row(self.cells(&row, &mut num_uncounted), writer);
                }
                _ => xml.skip()?,
            }
            if writer.is_full() {
                break;
            }
        }
        table.finish(writer);
        writer.unread.extend(uncounted(num_uncounted));
        Ok(())
    }

    /// Counts the formulas without a value in `num_uncounted`.
    fn cells(&self, row: &Element, num_uncounted: &mut usize) -> Vec<Cell> {
        let mut next_column = 0;
        let cells = row.elements().filter(|cell| cell.name == "c");
        cells
            .map(|cell| {
                let column = cell.attribute("r").and_then(column).unwrap_or(next_column);
                next_column = column + 1;
                let (text, is_words) = match formula_without_value(cell) {
                    Some(formula) => {
                        *num_uncounted += 1;
                        (formula, false)
                    }
                    None => self.shown(cell),
                };
                Cell {
                    column,
                    text,
                    is_words,
                }
            })
            .collect()
    }
}

impl Reader for Workbook {
    fn num_pages(&self) -> u32 {
        self.sheets.len() as u32
    }

    fn title(&self) -> Option<String> {
        self.title.clone()
    }

    fn page(&mut self, number: u32) -> Result<PageContent, String> {
        let sheet = &self.sheets[number as usize - 1];
        let mut writer = Writer::default();
        writer.heading(1, &sheet.name);
        let part = sheet.part.clone();
        let part = part.ok_or_else(|| format!("its sheet {:?} is missing", sheet.name))?;
        let source = self.package.archive.read_xml(&part)?;
        let source = source.ok_or_else(|| format!("its part {part:?} is missing"))?;
        // A sheet that is a chart has no rows.
        self.write_rows(&source, &part, &mut writer)?;
        let relations = self.package.relations_of(&part)?;
        if let Some(drawing) = relations.of_kind("drawing")
            && let Some(tree) = self.package.tree(drawing)?
        {
            let relations = self.package.relations_of(drawing)?;
            super::drawing::write_referenced(&tree, &mut self.package, &relations, &mut writer)?;
            let mut boxes = Vec::new();
            tree.all("txBody", &mut boxes);
            for text_box in boxes {
                writer.paragraph(&super::drawing::words(text_box));
            }
        }
        match writer.has_only_heading() {
            true => Ok(writer.without_words()),
            false => writer.finish(),
        }
    }
}

fn shared_strings(package: &mut Package, part: &str) -> Result<Vec<String>, String> {
    let Some(source) = package.archive.read_xml(part)? else {
        return Ok(Vec::new());
    };
    let mut xml = Xml::new(&source, part);
    let mut strings = Vec::new();
    while let Some(event) = xml.next()? {
        if let Event::Open(element) = event
            && element.name == "si"
        {
            strings.push(rich_text(&xml.rest_of(element)?));
        }
    }
    Ok(strings)
}

/// The formula of a cell that no program has counted, as a cell of it is written. Of formulas that are shared only the
/// first cell has the words.
fn formula_without_value(cell: &Element) -> Option<String> {
    let formula = cell.child("f")?.text();
    let value = cell.child("v").map(Element::text);
    let is_counted = match cell.attribute("t") {
        // The value may be an empty text.
        Some("str") => value.is_some(),
        _ => value.is_some_and(|value| !value.trim().is_empty()),
    };
    let shown = match formula.trim() {
        "" => "=".to_owned(),
        formula => format!("={formula}"),
    };
    (!is_counted).then_some(shown)
}

/// A string of runs; how it is pronounced is not part of it.
fn rich_text(string: &Element) -> String {
    let mut text = String::new();
    for part in string.elements() {
        match part.name.as_str() {
            "t" => text.push_str(&part.text()),
            "r" => text.push_str(&part.child("t").map(Element::text).unwrap_or_default()),
            _ => {}
        }
    }
    unescaped(&text)
}

/// Characters that XML cannot hold are written as `_x000D_`.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("_x") {
        out.push_str(&rest[..at]);
        let code = rest
            .get(at + 2..at + 6)
            .filter(|_| rest.as_bytes().get(at + 6) == Some(&b'_'));
        match code.and_then(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?)) {
            Some(c) => {
                out.push(c);
                rest = &rest[at + 7..];
            }
            None => {
                out.push_str("_x");
                rest = &rest[at + 2..];
            }
        }
    }
    out + rest
}

fn formats_of(styles: &Element) -> Vec<NumberFormat> {
    let own = |id: u32| {
        let own = styles
            .child("numFmts")
            .into_iter()
            .flat_map(Element::elements);
        let mut own =
            own.filter(|it| it.attribute("numFmtId").and_then(|it| it.parse().ok()) == Some(id));
        own.next().and_then(|it| it.attribute("formatCode"))
    };
    let of_cells = styles
        .child("cellXfs")
        .into_iter()
        .flat_map(Element::elements);
    of_cells
        .map(|style| {
            let id = style.attribute("numFmtId").and_then(|it| it.parse().ok());
            let id: u32 = id.unwrap_or(0);
            match own(id) {
                Some(code) => NumberFormat::new(code),
                None => NumberFormat::built_in(id),
            }
        })
        .collect()
}

/// The column of a place as `BC12`, from 0.
fn column(place: &str) -> Option<usize> {
    const MAX_COLUMN: usize = 1 << 20;
    let letters = place.bytes().take_while(u8::is_ascii_alphabetic);
    let number = letters.fold(0usize, |number, letter| {
        let digit = usize::from(letter.to_ascii_uppercase() - b'A') + 1;
        number.saturating_mul(26).saturating_add(digit)
    });
    number.checked_sub(1).filter(|column| *column < MAX_COLUMN)
}

#[cfg(test)]
mod tests {
    use super::super::super::archive::tests::zip_of;
    use super::*;

    #[test]
    fn formulas_are_shown_where_nobody_has_counted_them() {
        let shown = |cell: &str| {
            let mut xml = Xml::new(cell, "sheet");
            match xml.next() {
                Ok(Some(Event::Open(element))) => {
                    formula_without_value(&xml.rest_of(element).expect("closed"))
                }
                _ => panic!("no cell"),
            }
        };
        let formula = Some("=B2+C2".to_owned());
        assert_eq!(shown("<c><f>B2+C2</f><v /></c>"), formula);
        assert_eq!(shown("<c t=\"str\"><f>B2+C2</f></c>"), formula);
        assert_eq!(shown("<c><f>B2+C2</f><v>7</v></c>"), None);
        assert_eq!(shown("<c t=\"str\"><f>IF(A1,1,\"\")</f><v></v></c>"), None);
        assert_eq!(shown("<c><v /></c>"), None);
    }

    #[test]
    fn a_sheet_tells_how_many_formulas_nobody_has_counted() {
        let relations = "<Relationships><Relationship Id='r1' Type='x/worksheet' Target='a.xml'/></Relationships>";
        let bytes = zip_of(&[
            ("[Content_Types].xml", b"<Types/>"),
            (
                "xl/workbook.xml",
                b"<workbook><sheets><sheet name='Costs' xmlns:r='r' r:id='r1'/></sheets></workbook>",
            ),
            ("xl/_rels/workbook.xml.rels", relations.as_bytes()),
            (
                "xl/a.xml",
                b"<worksheet><sheetData>\
                <row r='1'><c r='A1' t='inlineStr'><is><t>Item</t></is></c><c r='B1' t='inlineStr'><is><t>Total</t></is></c></row>\
                <row r='2'><c r='A2' t='inlineStr'><is><t>Rent</t></is></c><c r='B2'><f>C2+D2</f><v/></c></row>\
                <row r='3'><c r='A3' t='inlineStr'><is><t>Sum</t></is></c><c r='B3'><f>SUM(B2:B2)</f></c></row>\
                </sheetData></worksheet>",
            ),
        ]);
        let mut workbook = Workbook::open(bytes, &Budget::default()).expect("a workbook");
        let page = workbook.page(1).expect("read");
        assert_eq!(
            page.text,
            "Costs\n\nItem | Total\nItem: Rent | Total: =C2+D2\nItem: Sum | Total: =SUM(B2:B2)"
        );
        assert_eq!(page.unread.len(), 1);
        assert!(
            page.unread[0].starts_with("2 formulas"),
            "{:?}",
            page.unread
        );
    }

    #[test]
    fn places_and_escapes_are_read() {
        assert_eq!(column("A1"), Some(0));
        assert_eq!(column("XFD1048576"), Some(16383));
        assert_eq!(column("12"), None);
        assert_eq!(column(&"Z".repeat(99)), None);
        assert_eq!(unescaped("a_x000D_b_x00_c_xé"), "a\rb_x00_c_xé");
    }
}
