//! Rows of a sheet as lines of text. Every row carries the names of its columns, so that a passage of a few rows can
//! be understood, and found by them.

use std::collections::{BTreeMap, HashSet};

use super::writer::Writer;

pub struct Cell {
    /// From 0.
    pub column: usize,
    pub text: String,
    /// Not a number, a date or a truth value.
    pub is_words: bool,
}

/// Writes the rows of one sheet.
#[derive(Default)]
pub struct Table {
    /// The names of the columns, once they are known.
    names: BTreeMap<usize, String>,
    /// A row that could be the column names: it is if the next one is a row of the table.
    candidate: Option<Vec<Cell>>,
    has_rows: bool,
}

/// A longer column name is shortened where it is repeated; its own line has all of it.
const MAX_NAME_CHARS: usize = 60;

impl Table {
    /// The next row; an empty one ends the block.
    pub fn row(&mut self, cells: Vec<Cell>, writer: &mut Writer) {
        let cells: Vec<Cell> = cells
            .into_iter()
            .filter(|cell| !cell.text.trim().is_empty())
            .collect();
        if let Some(candidate) = self.candidate.take() {
            if is_row_under(&candidate, &cells) && self.is_another_table(&candidate, &cells) {
                self.names = names(&candidate);
                self.has_rows = false;
                writer.end_block();
                writer.line(&joined(&candidate));
            } else {
                self.write(candidate, writer);
            }
        }
        if cells.is_empty() {
            writer.end_block();
            self.has_rows = false;
        } else if !self.has_rows && could_be_names(&cells) {
            self.candidate = Some(cells);
        } else {
            self.write(cells, writer);
        }
    }

    pub fn finish(mut self, writer: &mut Writer) {
        if let Some(candidate) = self.candidate.take() {
            self.write(candidate, writer);
        }
        writer.end_block();
    }

    /// An empty line inside of a table of words does not make the next row the names of a new one.
    fn is_another_table(&self, names: &[Cell], cells: &[Cell]) -> bool {
        let columns = names.iter().map(|cell| &cell.column);
        !columns.eq(self.names.keys()) || cells.iter().any(|cell| !cell.is_words)
    }

    fn write(&mut self, cells: Vec<Cell>, writer: &mut Writer) {
        // A single cell is a title or a remark, not a row; another table may follow it.
        if cells.len() == 1 && self.names.len() != 1 {
            writer.line(cells[0].text.trim());
            return;
        }
        self.has_rows = true;
        let fields = cells.iter().map(|cell| {
            let value = on_one_line(&cell.text);
            match self.names.get(&cell.column) {
                Some(name) => format!("{name}: {value}"),
                None => value,
            }
        });
        writer.line(&fields.collect::<Vec<_>>().join(" | "));
    }
}

/// Names are words or several years, at least two, and each another.
fn could_be_names(cells: &[Cell]) -> bool {
    let mut seen = HashSet::new();
    let num_years = cells.iter().filter(|cell| is_year(cell)).count();
    cells.len() > 1
        && num_years != 1
        && cells.iter().all(|cell| {
            (cell.is_words || is_year(cell)) && seen.insert(cell.text.trim().to_lowercase())
        })
}

fn is_year(cell: &Cell) -> bool {
    let year = cell.text.trim().parse::<u32>();
    !cell.is_words && year.is_ok_and(|year| (1900..2100).contains(&year))
}

/// Whether a row belongs under the names: it has as many fields, or nearly.
fn is_row_under(names: &[Cell], cells: &[Cell]) -> bool {
    let last = names.last().map_or(0, |cell| cell.column);
    let num_named = cells
        .iter()
        .filter(|cell| names.iter().any(|name| name.column == cell.column))
        .count();
    !cells.is_empty()
        && num_named * 2 >= cells.len()
        && cells.iter().all(|cell| cell.column <= last + 1)
}

fn names(cells: &[Cell]) -> BTreeMap<usize, String> {
    let name = |cell: &Cell| {
        let name = on_one_line(&cell.text);
        let name = name.trim_end_matches(':');
        let mut short: String = name.chars().take(MAX_NAME_CHARS).collect();
        if short.len() < name.len() {
            short.push('…');
        }
        (cell.column, short)
    };
    cells.iter().map(name).collect()
}

/// Cells as they stand, without names.
pub fn joined(cells: &[Cell]) -> String {
    let texts = cells.iter().map(|cell| on_one_line(&cell.text));
    texts.collect::<Vec<_>>().join(" | ")
}

/// What is to be known of a sheet with formulas that no program has counted.
pub fn uncounted(num_formulas: usize) -> Option<String> {
    let what = match num_formulas {
        0 => return None,
        1 => "1 formula has no stored value and is shown as it is written".to_owned(),
        n => format!("{n} formulas have no stored value and are shown as they are written"),
    };
    Some(format!(
        "{what}; open the file in a spreadsheet program, save it and add it again"
    ))
}

pub fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a field of a text file holds words and not a number, a date or the like.
pub fn is_words(text: &str) -> bool {
    let text = text.trim();
    let is_value = |c: char| c.is_ascii_digit() || ".,:;/-+%()$€£ eETZ".contains(c);
    let has_digit = text.contains(|c: char| c.is_ascii_digit());
    !(text.is_empty()
        || (has_digit && text.chars().all(is_value))
        || matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "yes" | "no" | "null" | "none" | "nan" | "n/a" | "-"
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(rows: &[&str]) -> String {
        let mut writer = Writer::default();
        let mut table = Table::default();
        for row in rows {
            let cells = row.split(',').enumerate().map(|(column, text)| Cell {
                column,
                text: text.to_owned(),
                is_words: is_words(text),
            });
            table.row(cells.collect(), &mut writer);
        }
        table.finish(&mut writer);
        writer.finish().expect("fits").text
    }

    #[test]
    fn every_row_names_its_columns() {
        assert_eq!(
            text_of(&[
                "Staff 2024",
                "Name,Age,Town",
                "Ann,7,",
                "Bob,,Ulm",
                "",
                "As of May"
            ]),
            "Staff 2024\n\nName | Age | Town\nName: Ann | Age: 7\nName: Bob | Town: Ulm\n\nAs of May"
        );
    }

    #[test]
    fn a_table_of_values_has_no_names() {
        assert_eq!(text_of(&["Ann,7", "Bob,8"]), "Ann | 7\nBob | 8");
        assert_eq!(text_of(&["Ann,2019", "Bob,2020"]), "Ann | 2019\nBob | 2020");
        assert_eq!(text_of(&["a,b"]), "a | b");
        assert_eq!(text_of(&["x,x", "1,2"]), "x | x\n1 | 2");
    }

    #[test]
    fn years_are_names_when_there_are_several() {
        assert_eq!(
            text_of(&["Port,2019,2020", "Ulm,7,8"]),
            "Port | 2019 | 2020\nPort: Ulm | 2019: 7 | 2020: 8"
        );
    }

    #[test]
    fn a_second_table_has_its_own_names() {
        assert_eq!(
            text_of(&["A,B", "1,2", "", "C,D", "3,4"]),
            "A | B\nA: 1 | B: 2\n\nC | D\nC: 3 | D: 4"
        );
    }
}
