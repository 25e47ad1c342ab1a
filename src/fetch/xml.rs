//! The elements of a small XML document, each with its attributes and own text: sitemaps and feeds. Entities that a
//! document defines itself are not expanded, and nesting is limited.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

const MAX_DEPTH: usize = 32;

/// An element that has ended. Names are without their prefixes.
#[derive(Debug)]
pub struct Element<'a> {
    /// From the outermost to this one.
    pub path: &'a [String],
    pub attributes: &'a [(String, String)],
    pub text: &'a str,
}

struct Open {
    attributes: Vec<(String, String)>,
    text: String,
}

/// Shows every element as it ends.
pub fn for_each_element(xml: &str, mut visit: impl FnMut(Element<'_>)) -> Result<(), String> {
    let mut reader = Reader::from_str(xml);
    let config = reader.config_mut();
    config.expand_empty_elements = true;
    config.allow_dangling_amp = true;
    let mut path: Vec<String> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    loop {
        let event = reader.read_event().map_err(|error| error.to_string())?;
        let text = match event {
            Event::Start(start) => {
                if path.len() == MAX_DEPTH {
                    return Err("its elements are nested too deeply".into());
                }
                path.push(start.local_name().as_ref().to_owned());
                open.push(Open {
                    attributes: attributes(&start),
                    text: String::new(),
                });
                continue;
            }
            Event::End(_) => {
                let Some(Open { attributes, text }) = open.pop() else {
                    continue;
                };
                visit(Element {
                    path: &path,
                    attributes: &attributes,
                    text: text.trim(),
                });
                path.pop();
                continue;
            }
            Event::Text(text) => text.into_inner().into_owned(),
            Event::CData(text) => text.into_inner().into_owned(),
            Event::GeneralRef(name) => match name.resolve_char_ref() {
                Ok(Some(c)) => c.to_string(),
                _ => quick_xml::escape::resolve_predefined_entity(&name)
                    .unwrap_or_default()
                    .to_owned(),
            },
            Event::Eof if !path.is_empty() => return Err("it ends too early".into()),
            Event::Eof => return Ok(()),
            Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => continue,
            Event::DocType(_) => continue,
        };
        if let Some(element) = open.last_mut() {
            element.text.push_str(&text);
        }
    }
}

fn attributes(start: &BytesStart) -> Vec<(String, String)> {
    let mut attributes = start.attributes();
    attributes.with_checks(false);
    let pairs = attributes.flatten().map(|attribute| {
        let value = attribute.normalized_value(XmlVersion::Implicit1_0);
        let value = value.map_or_else(|_| attribute.value.to_string(), |it| it.into_owned());
        (attribute.key.as_ref().to_owned(), value)
    });
    pairs.collect()
}
