//! XML as events, or an element at a time as a tree. Entities that a file defines itself are never expanded, and
//! nesting is limited. Names are without their prefixes: in the formats read here no two that matter clash.

use quick_xml::Reader;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event as Raw};

/// Deeper than any program nests what people write.
const MAX_DEPTH: usize = 400;

#[derive(Debug, Default)]
pub struct Element {
    pub name: String,
    /// With their prefixes.
    attributes: Vec<(String, String)>,
    pub children: Vec<Node>,
}

#[derive(Debug)]
pub enum Node {
    Element(Element),
    Text(String),
}

pub enum Event {
    /// An element begins; its children follow as events.
    Open(Element),
    Close,
    Text(String),
}

pub struct Xml<'a> {
    reader: Reader<&'a [u8]>,
    /// For messages.
    member: &'a str,
    depth: usize,
}

impl<'a> Xml<'a> {
    pub fn new(text: &'a str, member: &'a str) -> Self {
        let mut reader = Reader::from_str(text);
        let config = reader.config_mut();
        config.expand_empty_elements = true;
        config.allow_dangling_amp = true;
        Self {
            reader,
            member,
            depth: 0,
        }
    }

    pub fn next(&mut self) -> Result<Option<Event>, String> {
        loop {
            let event = self.reader.read_event();
            let event = event.map_err(|error| self.damaged(&error.to_string()))?;
            return Ok(Some(match event {
                Raw::Start(start) => {
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(self.damaged("its elements are nested too deeply"));
                    }
                    Event::Open(opened(&start))
                }
                Raw::End(_) => {
                    self.depth = self.depth.saturating_sub(1);
                    Event::Close
                }
                Raw::Text(text) => Event::Text(text.into_inner().into_owned()),
                Raw::CData(text) => Event::Text(text.into_inner().into_owned()),
                Raw::GeneralRef(name) => Event::Text(match name.resolve_char_ref() {
                    Ok(Some(c)) => c.to_string(),
                    _ => quick_xml::escape::resolve_predefined_entity(&name)
                        .map_or_else(|| format!("&{};", &*name), str::to_owned),
                }),
                Raw::Eof if self.depth > 0 => return Err(self.damaged("it ends too early")),
                Raw::Eof => return Ok(None),
                Raw::Empty(_) | Raw::Comment(_) | Raw::Decl(_) | Raw::PI(_) | Raw::DocType(_) => {
                    continue;
                }
            }));
        }
    }

    /// The byte at which the next event begins.
    pub fn position(&self) -> usize {
        usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX)
    }

    /// The element that was opened last, with all that is in it.
    pub fn rest_of(&mut self, mut element: Element) -> Result<Element, String> {
        while let Some(event) = self.next()? {
            match event {
                Event::Open(child) => {
                    let child = self.rest_of(child)?;
                    element.children.push(Node::Element(child));
                }
                Event::Text(text) => match element.children.last_mut() {
                    Some(Node::Text(before)) => before.push_str(&text),
                    _ => element.children.push(Node::Text(text)),
                },
                Event::Close => break,
            }
        }
        Ok(element)
    }

    /// Reads past the element that was opened last.
    pub fn skip(&mut self) -> Result<(), String> {
        let depth = self.depth;
        while self.depth >= depth {
            if self.next()?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn damaged(&self, reason: &str) -> String {
        format!(
            "its part {:?} is damaged at byte {}: {reason}",
            self.member,
            self.reader.buffer_position()
        )
    }
}

/// The outermost element with all that is in it.
pub fn tree(text: &str, member: &str) -> Result<Element, String> {
    let mut xml = Xml::new(text, member);
    while let Some(event) = xml.next()? {
        if let Event::Open(element) = event {
            return xml.rest_of(element);
        }
    }
    Ok(Element::default())
}

fn opened(start: &BytesStart) -> Element {
    let mut attributes = start.attributes();
    attributes.with_checks(false);
    let attributes = attributes.flatten().map(|attribute| {
        let value = attribute.normalized_value(XmlVersion::Implicit1_0);
        let value = value.map_or_else(|_| attribute.value.to_string(), |value| value.into_owned());
        (attribute.key.as_ref().to_owned(), value)
    });
    Element {
        name: start.local_name().as_ref().to_owned(),
        attributes: attributes.collect(),
        children: Vec::new(),
    }
}

impl Element {
    /// The attribute of that name, whatever its prefix.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .or_else(|| {
                self.attributes
                    .iter()
                    .find(|(key, _)| key.split_once(':').is_some_and(|(_, local)| local == name))
            })
            .map(|(_, value)| value.as_str())
    }

    /// The attribute of that name which has a prefix, as `r:id` beside `id`.
    pub fn prefixed(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key.split_once(':').is_some_and(|(_, local)| local == name))
            .map(|(_, value)| value.as_str())
    }

    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    pub fn child(&self, name: &str) -> Option<&Element> {
        self.elements().find(|element| element.name == name)
    }

    /// The child at the end of a path of names.
    pub fn at(&self, path: &[&str]) -> Option<&Element> {
        path.iter()
            .try_fold(self, |element, name| element.child(name))
    }

    /// The `val` of a child, as Office writes settings.
    pub fn value_of(&self, child: &str) -> Option<&str> {
        self.child(child)?.attribute("val")
    }

    /// Whether a child switches something on.
    pub fn is_on(&self, child: &str) -> bool {
        self.child(child)
            .is_some_and(|switch| !matches!(switch.attribute("val"), Some("0" | "false" | "off")))
    }

    /// All text in it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.add_text(&mut text);
        text
    }

    fn add_text(&self, text: &mut String) {
        for node in &self.children {
            match node {
                Node::Text(words) => text.push_str(words),
                Node::Element(element) => element.add_text(text),
            }
        }
    }

    /// Every element of that name in it, in order; not those inside of one.
    pub fn all<'e>(&'e self, name: &str, found: &mut Vec<&'e Element>) {
        for element in self.elements() {
            if element.name == name {
                found.push(element);
            } else {
                element.all(name, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_their_prefixes_and_entities_are_resolved() {
        let root = tree(
            "<w:a x:id='r' id='5'><w:t>1 &lt; 2 &#x41;&amp;</w:t><b/></w:a>",
            "m",
        )
        .expect("well formed");
        assert_eq!(root.name, "a");
        assert_eq!(
            (root.attribute("id"), root.prefixed("id")),
            (Some("5"), Some("r"))
        );
        assert_eq!(
            root.child("t").map(Element::text).as_deref(),
            Some("1 < 2 A&")
        );
    }

    #[test]
    fn entities_of_the_file_are_not_expanded() {
        let bomb = "<!DOCTYPE a [<!ENTITY b \"ha\"><!ENTITY c \"&b;&b;\">]><a x='&c;'>&c;</a>";
        let root = tree(bomb, "m").expect("well formed");
        assert_eq!(root.text(), "&c;");
        assert_eq!(root.attribute("x"), Some("&c;"));
        let external = "<!DOCTYPE a [<!ENTITY b SYSTEM \"file:///etc/hostname\">]><a>&b;</a>";
        assert_eq!(tree(external, "m").expect("well formed").text(), "&b;");
    }

    #[test]
    fn damage_and_depth_are_errors_with_their_place() {
        let cut = tree("<a><b>text", "word/document.xml").expect_err("cut");
        assert!(
            cut.contains("word/document.xml") && cut.contains("too early"),
            "{cut}"
        );
        let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
        assert!(tree(&deep, "m").is_err_and(|reason| reason.contains("too deeply")));
        assert!(tree("<a></b>", "m").is_err());
    }
}
