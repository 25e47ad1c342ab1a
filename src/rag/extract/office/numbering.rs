//! The numbers and bullets that Word puts before list items and headings: they are not in the text, but people cite
//! them.

use std::collections::{HashMap, HashSet};

use super::super::xml::Element;

const NUM_LEVELS: usize = 9;

#[derive(Default)]
pub struct Numbering {
    definitions: HashMap<String, [Level; NUM_LEVELS]>,
    lists: HashMap<String, List>,
    /// Of a definition: lists of the same one go on counting.
    counts: HashMap<String, [Option<u32>; NUM_LEVELS]>,
    begun: HashSet<String>,
}

#[derive(Default, Clone)]
struct Level {
    start: u32,
    format: String,
    /// As `%1.%2`.
    text: String,
}

struct List {
    definition: String,
    starts: Vec<(usize, u32)>,
}

impl Numbering {
    pub fn new(root: &Element) -> Self {
        let mut numbering = Self::default();
        for element in root.elements() {
            match element.name.as_str() {
                "abstractNum" => {
                    let id = element.attribute("abstractNumId").unwrap_or_default();
                    let mut levels: [Level; NUM_LEVELS] = Default::default();
                    for level in element.elements().filter(|it| it.name == "lvl") {
                        if let Some(place) = place(level).and_then(|at| levels.get_mut(at)) {
                            *place = Level {
                                start: number(level.value_of("start")).unwrap_or(1),
                                format: level.value_of("numFmt").unwrap_or("decimal").to_owned(),
                                text: level.value_of("lvlText").unwrap_or_default().to_owned(),
                            };
                        }
                    }
                    numbering.definitions.insert(id.to_owned(), levels);
                }
                "num" => {
                    let id = element.attribute("numId").unwrap_or_default();
                    let overrides = element.elements().filter(|it| it.name == "lvlOverride");
                    let starts = overrides
                        .filter_map(|it| Some((place(it)?, number(it.value_of("startOverride"))?)));
                    let list = List {
                        definition: element
                            .value_of("abstractNumId")
                            .unwrap_or_default()
                            .to_owned(),
                        starts: starts.collect(),
                    };
                    numbering.lists.insert(id.to_owned(), list);
                }
                _ => {}
            }
        }
        numbering
    }

    /// What stands before the next item of the list: "- ", "2.1 " or nothing.
    pub fn next_label(&mut self, list_id: &str, level: usize) -> String {
        let Some(list) = self.lists.get(list_id) else {
            return "- ".to_owned();
        };
        let Some(levels) = self.definitions.get(&list.definition) else {
            return "- ".to_owned();
        };
        let counts = self.counts.entry(list.definition.clone()).or_default();
        if self.begun.insert(list_id.to_owned()) {
            for (place, start) in &list.starts {
                if let Some(count) = counts.get_mut(*place) {
                    *count = start.checked_sub(1);
                }
            }
        }
        // A level that was left out counts as if it had been there.
        for place in 0..level {
            counts[place].get_or_insert(levels[place].start);
        }
        counts[level] = Some(match counts[level] {
            Some(count) => count.saturating_add(1),
            None => levels[level].start,
        });
        counts[level + 1..].fill(None);
        label(levels, counts, level)
    }
}

fn label(levels: &[Level], counts: &[Option<u32>], level: usize) -> String {
    match levels[level].format.as_str() {
        "bullet" => return "- ".to_owned(),
        "none" | "" => return String::new(),
        _ => {}
    }
    let mut label = String::new();
    let mut chars = levels[level].text.chars().peekable();
    while let Some(c) = chars.next() {
        let place = (c == '%')
            .then(|| chars.next_if(|digit| ('1'..='9').contains(digit)))
            .flatten()
            .map(|digit| digit as usize - '1' as usize);
        match place {
            Some(place) => {
                let count = counts[place].unwrap_or(levels[place].start);
                label.push_str(&written(count, &levels[place].format));
            }
            None => label.push(c),
        }
    }
    if label.is_empty() {
        return label;
    }
    label + " "
}

fn written(count: u32, format: &str) -> String {
    match format {
        "lowerLetter" => letters(count).to_lowercase(),
        "upperLetter" => letters(count),
        "lowerRoman" => roman(count).to_lowercase(),
        "upperRoman" => roman(count),
        "decimalZero" => format!("{count:02}"),
        _ => count.to_string(),
    }
}

/// A to Z, then AA, BB and so on.
pub fn letters(count: u32) -> String {
    const MAX_REPEATED: u32 = 10;
    let Some(index) = count.checked_sub(1) else {
        return "0".to_owned();
    };
    let letter = char::from(b'A' + (index % 26) as u8);
    std::iter::repeat_n(letter, (index / 26).min(MAX_REPEATED) as usize + 1).collect()
}

pub fn roman(count: u32) -> String {
    const SIGNS: [(u32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    if !(1..4000).contains(&count) {
        return count.to_string();
    }
    let mut rest = count;
    let mut text = String::new();
    for (value, sign) in SIGNS {
        while rest >= value {
            text.push_str(sign);
            rest -= value;
        }
    }
    text
}

fn place(element: &Element) -> Option<usize> {
    element.attribute("ilvl")?.parse().ok()
}

fn number(text: Option<&str>) -> Option<u32> {
    text?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::super::xml;
    use super::*;

    #[test]
    fn items_are_counted_as_word_counts_them() {
        let root = xml::tree(
            "<numbering><abstractNum abstractNumId='0'>\
             <lvl ilvl='0'><start val='1'/><numFmt val='upperRoman'/><lvlText val='%1.'/></lvl>\
             <lvl ilvl='1'><start val='3'/><numFmt val='lowerLetter'/><lvlText val='%1.%2)'/></lvl>\
             <lvl ilvl='2'><numFmt val='bullet'/><lvlText val='x'/></lvl></abstractNum>\
             <num numId='1'><abstractNumId val='0'/></num>\
             <num numId='2'><abstractNumId val='0'/><lvlOverride ilvl='0'><startOverride val='9'/></lvlOverride></num>\
             </numbering>",
            "numbering",
        )
        .expect("XML");
        let mut numbering = Numbering::new(&root);
        let labels: Vec<_> = [
            ("1", 0),
            ("1", 1),
            ("1", 1),
            ("1", 2),
            ("1", 0),
            ("1", 1),
            ("2", 0),
            ("7", 0),
        ]
        .into_iter()
        .map(|(list, level)| numbering.next_label(list, level))
        .collect();
        assert_eq!(
            labels,
            [
                "I. ", "I.c) ", "I.d) ", "- ", "II. ", "II.c) ", "IX. ", "- "
            ]
        );
    }

    #[test]
    fn letters_and_roman_numbers() {
        assert_eq!(
            (letters(1), letters(27), letters(0)),
            ("A".into(), "AA".into(), "0".into())
        );
        assert_eq!(
            (roman(1994), roman(4000)),
            ("MCMXCIV".into(), "4000".into())
        );
    }
}
