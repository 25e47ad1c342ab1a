//! Markdown: the source itself is the text, so that a citation shows what the author wrote. Finds the headings;
//! never changes a byte.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{ExtractedText, Format, Heading, single_page};

pub fn extract(text: String) -> ExtractedText {
    let (headings, front_matter) = structure(&text);
    let title = front_matter
        .as_deref()
        .and_then(title_in_front_matter)
        .or_else(|| {
            headings
                .iter()
                .find(|heading| heading.level == 1)
                .map(|heading| heading.title.clone())
        });
    single_page(Format::Markdown, title, text, headings)
}

/// The headings, and the front matter's source if there is any.
fn structure(text: &str) -> (Vec<Heading>, Option<String>) {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_HEADING_ATTRIBUTES
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS;
    let mut headings = Vec::new();
    let mut front_matter = None;
    let mut open: Option<Heading> = None;
    let mut in_front_matter = false;
    for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
        match event {
            Event::Start(Tag::Heading { level, .. }) => {
                open = Some(Heading {
                    level: level as u8,
                    title: String::new(),
                    offset: range.start,
                });
            }
            Event::End(TagEnd::Heading(_)) => headings.extend(open.take().filter(|heading| {
                // A heading without words leads nowhere.
                !heading.title.trim().is_empty()
            })),
            Event::Start(Tag::MetadataBlock(_)) => in_front_matter = true,
            Event::End(TagEnd::MetadataBlock(_)) => in_front_matter = false,
            Event::Text(words) if in_front_matter => {
                front_matter
                    .get_or_insert_with(String::new)
                    .push_str(&words);
            }
            Event::Text(words) | Event::Code(words) => {
                if let Some(heading) = &mut open {
                    heading.title.push_str(&words);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some(heading) = &mut open {
                    heading.title.push(' ');
                }
            }
            _ => {}
        }
    }
    (headings, front_matter)
}

fn title_in_front_matter(source: &str) -> Option<String> {
    let value = source.lines().find_map(|line| {
        let (key, value) = line.split_once([':', '='])?;
        (key.trim() == "title").then_some(value)
    })?;
    let value = value.trim().trim_matches(['"', '\'']).trim();
    (!value.is_empty()).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_are_found_where_they_stand() {
        let source = "---\ntitle: \"The manual\"\n# not a heading\n---\n\n# Parts\n\ntext\n\n```\n# code\n```\n\n\
                      Set `x` up\n-----\n\nmore";
        let doc = extract(source.to_owned());
        assert_eq!(doc.title.as_deref(), Some("The manual"));
        assert_eq!(doc.text, source);
        let found: Vec<_> = doc
            .headings
            .iter()
            .map(|h| (h.level, h.title.as_str(), &source[h.offset..][..5]))
            .collect();
        assert_eq!(found, [(1, "Parts", "# Par"), (2, "Set x up", "Set `")]);
    }

    #[test]
    fn the_first_top_heading_is_the_title_without_front_matter() {
        assert_eq!(
            extract("intro\n\n# One *two*\n".to_owned())
                .title
                .as_deref(),
            Some("One two")
        );
        assert_eq!(extract("no headings".to_owned()).title, None);
    }
}
