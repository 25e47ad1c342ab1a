//! CSV and its kin: finds out what separates the fields, and shows every row with the names of its columns.

use super::protocol::Refusal;
use super::reader::Whole;
use super::table::{Cell, Table, is_words};
use super::text;
use super::writer::Writer;

const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

pub fn open(bytes: &[u8], filename: &str) -> Result<Whole, Refusal> {
    let source = text::decode(bytes);
    let (source, delimiter) = match announced(&source) {
        Some((rest, delimiter)) => (rest, delimiter),
        None => (source.as_str(), delimiter(&source, filename)),
    };
    let mut writer = Writer::default();
    let mut table = Table::default();
    for record in rows(source, delimiter) {
        let record = record.map_err(|error| error.to_string())?;
        // The parser passes over empty lines, which part one table from the next.
        let start = record.position().map_or(0, csv::Position::byte) as usize;
        if source.as_bytes().get(start) == Some(&b'\n') {
            table.row(Vec::new(), &mut writer);
        }
        let cells = record.iter().enumerate().map(|(column, field)| Cell {
            column,
            text: field.to_owned(),
            is_words: is_words(field),
        });
        table.row(cells.collect(), &mut writer);
        if writer.is_full() {
            break;
        }
    }
    table.finish(&mut writer);
    let content = writer.finish()?;
    if content.text.is_empty() {
        return Err(Refusal::NoText("there are no words in it".to_owned()));
    }
    Ok(Whole::new(None, content))
}

fn rows(
    source: &str,
    delimiter: u8,
) -> impl Iterator<Item = Result<csv::StringRecord, csv::Error>> {
    csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(source.as_bytes())
        .into_records()
}

/// Excel's first line `sep=;`.
fn announced(source: &str) -> Option<(&str, u8)> {
    let rest = source.strip_prefix("sep=")?;
    let (first, rest) = rest.split_once('\n')?;
    match first.trim_end_matches('\r').as_bytes() {
        [delimiter] if delimiter.is_ascii() => Some((rest, *delimiter)),
        _ => None,
    }
}

/// The character that parts most rows into the same number of fields, more than one.
fn delimiter(source: &str, filename: &str) -> u8 {
    const SAMPLE_ROWS: usize = 50;
    const SAMPLE_BYTES: usize = 64 << 10;
    let mut end = source.len().min(SAMPLE_BYTES);
    while !source.is_char_boundary(end) {
        end -= 1;
    }
    let sample = &source[..end];
    let named = match filename.to_ascii_lowercase() {
        name if name.ends_with(".tsv") || name.ends_with(".tab") => b'\t',
        _ => b',',
    };
    let score = |delimiter: u8| {
        let counts: Vec<usize> = rows(sample, delimiter)
            .take(SAMPLE_ROWS)
            .flatten()
            .map(|row| row.len())
            .collect();
        let usual = counts
            .iter()
            .copied()
            .max_by_key(|count| counts.iter().filter(|it| *it == count).count())
            .unwrap_or(1);
        let num_usual = counts.iter().filter(|count| **count == usual).count();
        match usual {
            0 | 1 => (0, 0, false),
            _ => (num_usual * 100 / counts.len(), usual, delimiter == named),
        }
    };
    let best = DELIMITERS.into_iter().max_by_key(|delimiter| {
        let (share, num_fields, is_named) = score(*delimiter);
        (share / 10, is_named, share, num_fields)
    });
    best.filter(|best| score(*best).1 > 1).unwrap_or(named)
}

#[cfg(test)]
mod tests {
    use super::super::reader::Reader;
    use super::*;

    fn text_of(bytes: &[u8], filename: &str) -> String {
        let mut document = open(bytes, filename).expect("read");
        document.page(1).expect("read").text
    }

    #[test]
    fn delimiters_are_found() {
        let expected = "Name | Note\nName: Ann, Bob | Note: 1\nName: Cleo | Note: 2";
        for (source, filename) in [
            ("Name,Note\n\"Ann, Bob\",1\nCleo,2\n", "a.csv"),
            ("Name;Note\nAnn, Bob;1\nCleo;2\n", "a.csv"),
            ("Name\tNote\r\nAnn, Bob\t1\r\nCleo\t2\r\n", "a.tsv"),
            ("sep=|\nName|Note\nAnn, Bob|1\nCleo|2", "a.csv"),
        ] {
            assert_eq!(text_of(source.as_bytes(), filename), expected, "{source:?}");
        }
    }

    #[test]
    fn encodings_are_found_and_fields_may_have_lines() {
        let source = "名前,年齢,住所\n佐藤太郎,30,東京\n三木英子,25,大阪\n髙橋淳,35,名古屋\n";
        let (bytes, ..) = encoding_rs::SHIFT_JIS.encode(source);
        assert!(text_of(&bytes, "a.csv").contains("名前: 髙橋淳 | 年齢: 35 | 住所: 名古屋"));
        assert_eq!(
            text_of(b"a,b\n\"x\ny\",2\n\nEnd of list\n", "a.csv"),
            "a | b\na: x y | b: 2\n\nEnd of list"
        );
    }
}
