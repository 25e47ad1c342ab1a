//! Rows and cells of sheets and of tables in texts.

use super::super::table::{Cell, Table};
use super::super::writer::Writer;
use super::super::xml::Element;
use super::words::plain;

/// Adds a row of a sheet, as often as it is repeated.
pub fn sheet_row(row: &Element, table: &mut Table, writer: &mut Writer) {
    const MAX_COLUMNS: usize = 16_384;
    const MAX_REPEATED_ROWS: usize = 1 << 20;
    let repeated = |element: &Element, name: &str| {
        let repeated = element.attribute(name).and_then(|it| it.parse().ok());
        repeated.unwrap_or(1usize)
    };
    let mut filled: Vec<(usize, String, bool)> = Vec::new();
    let mut column = 0usize;
    for cell in cells(row) {
        let times = repeated(cell, "number-columns-repeated");
        let shown = sheet_cell(cell);
        if !shown.is_empty() {
            let is_words = matches!(cell.attribute("value-type"), None | Some("string"));
            let columns = (column..).take(times).take_while(|at| *at < MAX_COLUMNS);
            filled.extend(columns.map(|at| (at, shown.clone(), is_words)));
        }
        column = column.saturating_add(times);
    }
    // Empty rows are repeated to the end of the sheet.
    let times = match filled.is_empty() {
        true => 1,
        false => repeated(row, "number-rows-repeated").min(MAX_REPEATED_ROWS),
    };
    for _ in 0..times {
        let cells = filled.iter().map(|(column, text, is_words)| Cell {
            column: *column,
            text: text.clone(),
            is_words: *is_words,
        });
        table.row(cells.collect(), writer);
        if writer.is_full() {
            break;
        }
    }
}

/// As the sheet shows it, or the value where nothing is shown.
fn sheet_cell(cell: &Element) -> String {
    let paragraphs = cell.elements().filter(|it| it.name == "p");
    let shown: Vec<String> = paragraphs.map(plain).collect();
    match shown.is_empty() {
        false => shown.join("\n"),
        true => [
            "string-value",
            "date-value",
            "time-value",
            "boolean-value",
            "value",
        ]
        .iter()
        .find_map(|name| cell.attribute(name))
        .unwrap_or_default()
        .to_owned(),
    }
}

/// What lies on a cell, or on a sheet.
pub fn shapes(parent: &Element) -> impl Iterator<Item = &Element> {
    parent.elements().filter(|it| {
        !matches!(
            it.name.as_str(),
            "p" | "annotation" | "detective" | "cell-range-source" | "table"
        )
    })
}

/// The cells of a row, those that lie under a wider one too.
pub fn cells(row: &Element) -> impl Iterator<Item = &Element> {
    row.elements()
        .filter(|it| matches!(it.name.as_str(), "table-cell" | "covered-table-cell"))
}

/// The rows of a table, its groups opened.
pub fn collect_rows<'e>(parent: &'e Element, found: &mut Vec<&'e Element>) {
    for element in parent.elements() {
        match element.name.as_str() {
            "table-row" => found.push(element),
            "table-row-group" | "table-header-rows" | "table-rows" => collect_rows(element, found),
            _ => {}
        }
    }
}
