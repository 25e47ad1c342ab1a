//! Rows and cells of sheets and of tables in texts.

use super::super::table::{Cell, Table};
use super::super::writer::Writer;
use super::super::xml::Element;
use super::words::plain;

/// Adds a row of a sheet, as often as it is repeated. Gives the number of formulas in it that no program has counted.
pub fn sheet_row(row: &Element, table: &mut Table, writer: &mut Writer) -> usize {
    const MAX_COLUMNS: usize = 16_384;
    const MAX_REPEATED_ROWS: usize = 1 << 20;
    let repeated = |element: &Element, name: &str| {
        let repeated = element.attribute(name).and_then(|it| it.parse().ok());
        repeated.unwrap_or(1usize)
    };
    let mut filled: Vec<(usize, String, bool)> = Vec::new();
    let mut column = 0usize;
    let mut num_uncounted = 0;
    for cell in cells(row) {
        let times = repeated(cell, "number-columns-repeated");
        let formula = formula_without_value(cell);
        let is_formula = formula.is_some();
        let shown = formula.unwrap_or_else(|| sheet_cell(cell));
        if !shown.is_empty() {
            let is_words =
                !is_formula && matches!(cell.attribute("value-type"), None | Some("string"));
            let columns = (column..).take(times).take_while(|at| *at < MAX_COLUMNS);
            num_uncounted += usize::from(is_formula) * columns.clone().count();
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
    num_uncounted * times
}

/// The formula of a cell that no program has counted, as a cell of it is written: `of:=[.B2]+[.C2]` is `=B2+C2`.
fn formula_without_value(cell: &Element) -> Option<String> {
    let formula = cell.attribute("formula")?;
    let is_counted = cell.attribute("value-type").is_some() || !sheet_cell(cell).is_empty();
    let (_, formula) = formula.split_once('=').unwrap_or(("", formula));
    let formula = formula
        .replace("[.", "")
        .replace(":.", ":")
        .replace(['[', ']'], "");
    (!is_counted).then(|| format!("={formula}"))
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

#[cfg(test)]
mod tests {
    use super::super::super::xml::{Event, Xml};
    use super::*;

    #[test]
    fn formulas_are_shown_where_nobody_has_counted_them() {
        let row = "<table-row><table-cell formula='of:=SUM([.B2:.B3])'/>\
            <table-cell formula='of:=[$Costs.B2]+[.C2]' value-type='float' value='7'><p>7</p></table-cell>\
            <table-cell formula='of:=IF([.A1];1;\"\")' value-type='string' string-value=''/></table-row>";
        let mut xml = Xml::new(row, "row");
        let Ok(Some(Event::Open(element))) = xml.next() else {
            panic!("no row");
        };
        let row = xml.rest_of(element).expect("closed");
        let (mut table, mut writer) = (Table::default(), Writer::default());
        assert_eq!(sheet_row(&row, &mut table, &mut writer), 1);
        table.finish(&mut writer);
        assert_eq!(writer.finish().expect("fits").text, "=SUM(B2:B3) | 7");
    }
}
