//! Items of lists as text marks them: with their numbers where a browser shows numbers, since text refers to them.

use dom_query::NodeRef;

use super::super::office::numbering::{letters, roman};

/// The lists that are open, from the outermost to the innermost.
#[derive(Default)]
pub struct Lists(Vec<List>);

enum List {
    Bullets,
    Numbered { next: i64, style: Style },
}

#[derive(Clone, Copy)]
enum Style {
    Decimal,
    Letters,
    Roman,
}

impl Lists {
    pub fn open(&mut self, node: &NodeRef, name: &str) {
        let attribute = |name: &str| node.attr(name);
        // Counting downwards begins with a number that only the last item tells.
        if name != "ol" || node.has_attr("reversed") {
            return self.0.push(List::Bullets);
        }
        let start = attribute("start").and_then(|it| it.trim().parse().ok());
        let style = match attribute("type").as_deref() {
            Some("a" | "A") => Style::Letters,
            Some("i" | "I") => Style::Roman,
            _ => Style::Decimal,
        };
        self.0.push(List::Numbered {
            next: start.unwrap_or(1),
            style,
        });
    }

    pub fn close(&mut self) {
        self.0.pop();
    }

    /// What stands before an item, which counts whether it has words or not.
    pub fn marker(&mut self, item: &NodeRef) -> String {
        let Some(List::Numbered { next, style }) = self.0.last_mut() else {
            return "- ".to_owned();
        };
        let own = item
            .attr("value")
            .and_then(|it| it.trim().parse::<i64>().ok());
        let number = own.unwrap_or(*next);
        *next = number.saturating_add(1);
        match (style, u32::try_from(number)) {
            (Style::Letters, Ok(number @ 1..)) => format!("{}. ", letters(number).to_lowercase()),
            (Style::Roman, Ok(number @ 1..)) => format!("{}. ", roman(number).to_lowercase()),
            _ => format!("{number}. "),
        }
    }
}
