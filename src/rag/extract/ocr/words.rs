//! Tesseract's table of words (TSV) as text: its blocks and paragraphs in its order of reading, a line a line.

use super::super::pdf;

#[derive(Debug, PartialEq)]
pub struct RecognisedPage {
    pub text: String,
    pub num_words: u64,
    /// The mean of its words, from 0 to 100.
    pub confidence: u8,
}

/// A row of the table that is a word.
struct Word<'a> {
    page: u32,
    /// Block, paragraph and line.
    place: [u32; 3],
    confidence: f64,
    text: &'a str,
}

/// The pages of an image, also those without words between others.
pub fn pages(table: &str) -> Vec<RecognisedPage> {
    let words: Vec<Word> = table.lines().filter_map(word).collect();
    let num_pages = table.lines().filter_map(page_of).max().unwrap_or(0);
    let of_page = |page| words.iter().filter(move |word| word.page == page);
    (1..=num_pages)
        .map(|page| {
            let num_words = of_page(page).count() as u64;
            let sum: f64 = of_page(page).map(|word| word.confidence).sum();
            RecognisedPage {
                text: text(of_page(page)),
                num_words,
                confidence: (sum / num_words.max(1) as f64).clamp(0.0, 100.0) as u8,
            }
        })
        .collect()
}

fn text<'a>(words: impl Iterator<Item = &'a Word<'a>>) -> String {
    let mut text = String::new();
    let mut before: Option<[u32; 3]> = None;
    for word in words {
        if let Some(before) = before {
            let [block, paragraph, _] = word.place;
            text.push_str(match before {
                same if same == word.place => " ",
                [b, p, _] if (b, p) == (block, paragraph) => "\n",
                _ => "\n\n",
            });
        }
        before = Some(word.place);
        text.push_str(word.text);
    }
    pdf::clean_page(&text)
}

/// Columns: level, page, block, paragraph, line, word, left, top, width, height, confidence, text.
fn word(row: &str) -> Option<Word<'_>> {
    const WORD_LEVEL: &str = "5";
    let fields: Vec<&str> = row.splitn(12, '\t').collect();
    let [level, page, block, paragraph, line, .., confidence, text] = fields[..] else {
        return None;
    };
    let confidence: f64 = confidence.parse().ok()?;
    if level != WORD_LEVEL || confidence < 0.0 || text.trim().is_empty() {
        return None;
    }
    Some(Word {
        page: page.parse().ok()?,
        place: [
            block.parse().ok()?,
            paragraph.parse().ok()?,
            line.parse().ok()?,
        ],
        confidence,
        text: text.trim(),
    })
}

fn page_of(row: &str) -> Option<u32> {
    row.split('\t').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_lines_and_paragraphs_and_divided_ones_are_joined() {
        let table = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext\n\
            1\t1\t0\t0\t0\t0\t0\t0\t9\t9\t-1\t\n\
            5\t1\t1\t1\t1\t1\t0\t0\t9\t9\t90\tThe\n\
            5\t1\t1\t1\t1\t2\t0\t0\t9\t9\t80.5\tlight-\n\
            5\t1\t1\t1\t2\t1\t0\t0\t9\t9\t70\thouse\n\
            5\t1\t1\t2\t1\t1\t0\t0\t9\t9\t40\tNext\n\
            5\t1\t2\t1\t1\t1\t0\t0\t9\t9\t95\t \n\
            1\t2\t0\t0\t0\t0\t0\t0\t9\t9\t-1\t\n";
        let pages = pages(table);
        assert_eq!(pages.len(), 2);
        assert_eq!(pages[0].text, "The lighthouse\n\nNext");
        assert_eq!((pages[0].num_words, pages[0].confidence), (4, 70));
        assert_eq!((pages[1].text.as_str(), pages[1].num_words), ("", 0));
        assert!(super::pages("noise").is_empty());
    }
}
