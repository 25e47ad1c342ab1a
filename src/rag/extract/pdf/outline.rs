//! The bookmarks of a PDF (ISO 32000-1, 12.3.3): which page each leads to. They may form loops and be any number; what
//! comes out is bounded.

use std::collections::{HashMap, HashSet};

use pdf_extract::{Dictionary, Document, Object, ObjectId};

use super::font::get;

#[derive(Debug, Clone, PartialEq)]
pub struct Bookmark {
    /// From 1, the outermost.
    pub level: u8,
    pub title: String,
}

const MAX_BOOKMARKS: usize = 20_000;
const MAX_LEVEL: u8 = 6;

/// The bookmarks that lead to each of `pages`, by its index.
pub fn bookmarks(document: &Document, pages: &[ObjectId]) -> HashMap<usize, Vec<Bookmark>> {
    let index_of: HashMap<ObjectId, usize> = pages
        .iter()
        .enumerate()
        .map(|(index, id)| (*id, index))
        .collect();
    let mut found: HashMap<usize, Vec<Bookmark>> = HashMap::new();
    let Some(root) = document
        .catalog()
        .ok()
        .and_then(|catalog| get(document, catalog, b"Outlines")?.as_dict().ok())
    else {
        return found;
    };
    let names = Names::new(document);
    let mut seen = HashSet::new();
    // What comes next is on top: the children of an entry before its neighbours.
    let mut waiting: Vec<(&Object, u8)> = root
        .get(b"First")
        .ok()
        .map(|it| (it, 1))
        .into_iter()
        .collect();
    while let Some((entry, level)) = waiting.pop() {
        let Ok(id) = entry.as_reference() else {
            continue;
        };
        let Ok(entry) = document.get_dictionary(id) else {
            continue;
        };
        if !seen.insert(id) || seen.len() > MAX_BOOKMARKS {
            continue;
        }
        waiting.extend(entry.get(b"Next").ok().map(|it| (it, level)));
        if level < MAX_LEVEL {
            waiting.extend(entry.get(b"First").ok().map(|it| (it, level + 1)));
        }
        let title = get(document, entry, b"Title");
        let title = title.and_then(|title| pdf_extract::decode_text_string(title).ok());
        let title = title.map(|title| title.split_whitespace().collect::<Vec<_>>().join(" "));
        let page = target(document, entry, &names).and_then(|page| match page {
            Object::Reference(id) => index_of.get(id).copied(),
            Object::Integer(index) => usize::try_from(*index).ok(),
            _ => None,
        });
        if let (Some(title), Some(page)) = (title.filter(|title| !title.is_empty()), page) {
            found
                .entry(page)
                .or_default()
                .push(Bookmark { level, title });
        }
    }
    found
}

/// The page that a bookmark leads to, as its destination names it.
fn target<'a>(
    document: &'a Document,
    entry: &'a Dictionary,
    names: &Names<'a>,
) -> Option<&'a Object> {
    let destination = get(document, entry, b"Dest").or_else(|| {
        let action = get(document, entry, b"A")?.as_dict().ok()?;
        get(document, action, b"D")
    })?;
    let destination = match destination {
        Object::Name(name) | Object::String(name, _) => names.get(document, name)?,
        other => other,
    };
    // A destination is an array, or a dictionary that holds one.
    let destination = match destination {
        Object::Dictionary(holder) => get(document, holder, b"D")?,
        other => other,
    };
    destination.as_array().ok()?.first()
}

/// Destinations that have a name.
struct Names<'a> {
    by_name: HashMap<&'a [u8], &'a Object>,
}

impl<'a> Names<'a> {
    fn new(document: &'a Document) -> Self {
        let mut by_name = HashMap::new();
        let catalog = document.catalog().ok();
        let old = catalog.and_then(|catalog| get(document, catalog, b"Dests")?.as_dict().ok());
        for (name, destination) in old.into_iter().flat_map(Dictionary::iter) {
            by_name.insert(name.as_slice(), destination);
        }
        let tree = catalog.and_then(|catalog| {
            let names = get(document, catalog, b"Names")?.as_dict().ok()?;
            get(document, names, b"Dests")?.as_dict().ok()
        });
        const MAX_NODES: usize = 10_000;
        let mut seen = HashSet::new();
        let mut waiting: Vec<&Dictionary> = tree.into_iter().collect();
        while let Some(node) = waiting.pop() {
            let pairs = get(document, node, b"Names").and_then(|it| it.as_array().ok());
            for pair in pairs.map(Vec::as_slice).unwrap_or_default().chunks_exact(2) {
                if let Ok(name) = pair[0].as_str() {
                    by_name.insert(name, &pair[1]);
                }
            }
            let kids = get(document, node, b"Kids").and_then(|it| it.as_array().ok());
            for kid in kids.into_iter().flatten() {
                if let Ok(id) = kid.as_reference()
                    && seen.len() < MAX_NODES
                    && seen.insert(id)
                {
                    waiting.extend(document.get_dictionary(id).ok());
                }
            }
        }
        Self { by_name }
    }

    fn get(&self, document: &'a Document, name: &[u8]) -> Option<&'a Object> {
        let found = self.by_name.get(name)?;
        document.dereference(found).ok().map(|(_, found)| found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pdf_extract::dictionary;

    #[test]
    fn bookmarks_lead_to_pages_by_reference_and_by_name_and_loops_end() {
        let mut document = Document::with_version("1.7");
        let text = |text: &str| Object::string_literal(text);
        let first = document.add_object(dictionary! { "Type" => "Page" });
        let second = document.add_object(dictionary! { "Type" => "Page" });
        let (chapter, section) = (document.new_object_id(), document.new_object_id());
        document.objects.insert(
            chapter,
            dictionary! {
                "Title" => text("One\n chapter"), "First" => section, "Next" => chapter,
                "Dest" => vec![first.into(), "Fit".into()],
            }
            .into(),
        );
        document.objects.insert(
            section,
            dictionary! {
                "Title" => text("Section"), "Next" => chapter,
                "A" => dictionary! { "S" => "GoTo", "D" => text("there") },
            }
            .into(),
        );
        let outlines = document.add_object(dictionary! { "First" => chapter });
        let catalog = document.add_object(dictionary! {
            "Outlines" => outlines,
            "Names" => dictionary! { "Dests" => dictionary! {
                "Names" => vec![text("there"), dictionary! { "D" => vec![second.into(), "Fit".into()] }.into()],
            } },
        });
        document.trailer.set("Root", catalog);
        let found = bookmarks(&document, &[first, second]);
        let titles = |page| {
            let of_page: &Vec<Bookmark> = &found[&page];
            of_page
                .iter()
                .map(|it| (it.level, it.title.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(titles(0), [(1, "One chapter".to_owned())]);
        assert_eq!(titles(1), [(2, "Section".to_owned())]);
    }
}
