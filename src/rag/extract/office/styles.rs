//! What a Word document's styles say about the paragraphs that have them: headings, lists, titles.

use std::collections::HashMap;

use super::super::xml::Element;

#[derive(Default)]
pub struct Styles {
    by_id: HashMap<String, Style>,
    default_paragraph: Option<String>,
}

#[derive(Default)]
struct Style {
    based_on: Option<String>,
    /// In lower case. Programs translate the id, but not the name of a built-in style.
    name: String,
    outline: Option<u8>,
    numbering: Option<(Option<String>, Option<usize>)>,
}

/// A list and the level in it.
pub type ListPlace = (String, usize);

impl Styles {
    pub fn new(root: &Element) -> Self {
        let mut styles = Self::default();
        for element in root.elements().filter(|it| it.name == "style") {
            let Some(id) = element.attribute("styleId") else {
                continue;
            };
            let properties = element.child("pPr");
            let is_paragraph = element.attribute("type") == Some("paragraph");
            if is_paragraph && matches!(element.attribute("default"), Some("1" | "true")) {
                styles.default_paragraph = Some(id.to_owned());
            }
            let style = Style {
                based_on: element.value_of("basedOn").map(str::to_owned),
                name: element.value_of("name").unwrap_or_default().to_lowercase(),
                outline: properties.and_then(outline),
                numbering: properties.and_then(numbering),
            };
            styles.by_id.insert(id.to_owned(), style);
        }
        styles
    }

    /// The level of a heading, from 1, or `None` for other paragraphs.
    pub fn heading_level(&self, properties: Option<&Element>) -> Option<u8> {
        if let Some(outline) = properties.and_then(outline) {
            return level(outline);
        }
        let chain: Vec<&Style> = self.chain(properties).collect();
        if let Some(outline) = chain.iter().find_map(|style| style.outline) {
            return level(outline);
        }
        chain.iter().find_map(|style| {
            let number = style.name.strip_prefix("heading ")?;
            number.trim().parse().ok().filter(|level| *level <= 9)
        })
    }

    pub fn is_title(&self, properties: Option<&Element>) -> bool {
        self.chain(properties).any(|style| style.name == "title")
    }

    /// The list that the paragraph is an item of.
    pub fn list(&self, properties: Option<&Element>) -> Option<ListPlace> {
        let own = properties.and_then(numbering);
        let of_styles = self
            .chain(properties)
            .find_map(|style| style.numbering.clone());
        let (list, place) = match (own, of_styles) {
            (Some((Some(list), place)), _) => (list, place),
            (Some((None, place)), Some((Some(list), of_style))) => (list, place.or(of_style)),
            (None, Some((Some(list), place))) => (list, place),
            _ => return None,
        };
        (list != "0").then(|| (list, place.unwrap_or(0).min(8)))
    }

    /// The paragraph's style and those that it is based on.
    fn chain<'s>(&'s self, properties: Option<&Element>) -> impl Iterator<Item = &'s Style> {
        const MAX_CHAIN: usize = 20;
        let id = properties
            .and_then(|it| it.value_of("pStyle"))
            .or(self.default_paragraph.as_deref());
        let first = id.and_then(|id| self.by_id.get(id));
        std::iter::successors(first, |style| {
            style.based_on.as_ref().and_then(|id| self.by_id.get(id))
        })
        .take(MAX_CHAIN)
    }
}

/// 9 stands for body text.
fn level(outline: u8) -> Option<u8> {
    (outline < 9).then_some(outline + 1)
}

fn outline(properties: &Element) -> Option<u8> {
    properties.value_of("outlineLvl")?.parse().ok()
}

fn numbering(properties: &Element) -> Option<(Option<String>, Option<usize>)> {
    let numbering = properties.child("numPr")?;
    let level = numbering.value_of("ilvl").and_then(|it| it.parse().ok());
    Some((numbering.value_of("numId").map(str::to_owned), level))
}
