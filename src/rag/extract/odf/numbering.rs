//! The numbers of list items in OpenDocument, as the program that wrote the file counts them (OpenDocument 1.3 part 3,
//! 5.3 and 16.30).

use std::collections::HashMap;

use super::super::office::numbering::{letters, roman};
use super::super::xml::Element;

/// Deeper levels than any program has.
const MAX_LEVELS: usize = 32;

#[derive(Default)]
pub struct Numbering {
    /// Of each list style by level; `None` is a bullet.
    styles: HashMap<String, Vec<Option<Level>>>,
    /// Of each list style by level, the number of the last item.
    counts: HashMap<String, Vec<u32>>,
}

#[derive(Clone)]
struct Level {
    format: String,
    prefix: String,
    suffix: String,
    start: u32,
    /// With how many numbers of the levels above, its own included.
    num_shown: usize,
}

impl Numbering {
    pub fn add_style(&mut self, style: &Element) {
        let Some(name) = style.attribute("name") else {
            return;
        };
        let mut levels = Vec::new();
        for element in style.elements() {
            let level = element.attribute("level").and_then(|it| it.parse().ok());
            let Some(level @ 1..=MAX_LEVELS) = level else {
                continue;
            };
            if levels.len() < level {
                levels.resize(level, None);
            }
            if element.name == "list-level-style-number" {
                levels[level - 1] = numbered(element);
            }
        }
        self.styles.insert(name.to_owned(), levels);
    }

    /// A list with a style of its own begins, which counts on from an earlier one of its style only if it says so.
    pub fn begin(&mut self, list: &Element) {
        let goes_on = list.attribute("continue-numbering") == Some("true")
            || list.attribute("continue-list").is_some();
        if let (false, Some(style)) = (goes_on, list.attribute("style-name")) {
            self.counts.remove(style);
        }
    }

    /// What stands before an item, which counts whether it has words or not.
    pub fn mark(&mut self, style: &str, level: usize, item: &Element) -> String {
        let levels = self
            .styles
            .get(style)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let level_of = |level: usize| levels.get(level).and_then(Option::as_ref);
        let Some(own) = level_of(level) else {
            return "- ".to_owned();
        };
        let counts = self.counts.entry(style.to_owned()).or_default();
        while counts.len() <= level {
            // A level that has no item yet shows its first number.
            let start = level_of(counts.len()).map_or(1, |it| it.start);
            let is_own = counts.len() == level;
            counts.push(if is_own {
                start.saturating_sub(1)
            } else {
                start
            });
        }
        counts.truncate(level + 1);
        let given = item.attribute("start-value").and_then(|it| it.parse().ok());
        counts[level] = given.unwrap_or_else(|| counts[level].saturating_add(1));
        let first = (level + 1).saturating_sub(own.num_shown);
        let numbers: Vec<String> = (first..=level)
            .filter_map(|level| Some(written(counts[level], &level_of(level)?.format)))
            .collect();
        format!("{}{}{} ", own.prefix, numbers.join("."), own.suffix)
    }
}

fn numbered(element: &Element) -> Option<Level> {
    let text = |name: &str| element.attribute(name).unwrap_or_default().to_owned();
    let number = |name: &str| element.attribute(name).and_then(|it| it.parse().ok());
    let format = text("num-format");
    if format.is_empty() {
        return None;
    }
    Some(Level {
        format,
        prefix: text("num-prefix"),
        suffix: text("num-suffix"),
        start: number("start-value").unwrap_or(1),
        num_shown: number("display-levels").unwrap_or(1) as usize,
    })
}

fn written(count: u32, format: &str) -> String {
    match format {
        "a" => letters(count).to_lowercase(),
        "A" => letters(count),
        "i" => roman(count).to_lowercase(),
        "I" => roman(count),
        _ => count.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::xml;
    use super::*;

    #[test]
    fn items_are_counted_by_style_and_level() {
        let style = xml::tree(
            "<list-style name='L'><list-level-style-number level='1' num-format='1' num-suffix='.'/>\
             <list-level-style-number level='2' num-format='a' num-prefix='(' num-suffix=')' start-value='3'/>\
             <list-level-style-number level='3' num-format='I' display-levels='3'/>\
             <list-level-style-bullet level='4'/></list-style>",
            "styles",
        )
        .expect("XML");
        let mut numbering = Numbering::default();
        numbering.add_style(&style);
        let item = Element::default();
        let mark = |numbering: &mut Numbering, level| numbering.mark("L", level, &item);
        let marks: Vec<String> = [0, 1, 1, 2, 0, 1, 3]
            .into_iter()
            .map(|level| mark(&mut numbering, level))
            .collect();
        assert_eq!(
            marks,
            ["1. ", "(c) ", "(d) ", "1.d.I ", "2. ", "(c) ", "- "]
        );
        let started = xml::tree("<list-item start-value='7'/>", "item").expect("XML");
        assert_eq!(numbering.mark("L", 0, &started), "7. ");
        let list =
            |more: &str| xml::tree(&format!("<list style-name='L' {more}/>"), "list").expect("XML");
        numbering.begin(&list("continue-numbering='true'"));
        assert_eq!(mark(&mut numbering, 0), "8. ");
        numbering.begin(&list(""));
        assert_eq!(mark(&mut numbering, 0), "1. ");
        assert_eq!(numbering.mark("unknown", 0, &item), "- ");
    }
}
