//! EPUB books: the chapters in the order in which they are read, each a page.

use std::borrow::Cow;
use std::collections::HashMap;

use super::archive::{Archive, resolved};
use super::html;
use super::protocol::{PageContent, Refusal};
use super::reader::{Budget, Reader};
use super::table::on_one_line;
use super::writer::Writer;
use super::xml::{self, Element};

pub struct Book {
    archive: Archive,
    title: Option<String>,
    authors: Vec<String>,
    description: Option<String>,
    chapters: Vec<String>,
    /// What the table of contents calls a chapter.
    labels: HashMap<String, String>,
}

impl Book {
    pub fn open(bytes: Vec<u8>, budget: &Budget) -> Result<Self, Refusal> {
        let mut archive = Archive::open(bytes, budget)?;
        let package_path = package_path(&mut archive)?;
        let package = required(&mut archive, &package_path)?;
        let metadata = package.child("metadata");
        let all = |name: &str| {
            let found = metadata.into_iter().flat_map(Element::elements);
            let found = found
                .filter(move |it| it.name == name)
                .map(|it| on_one_line(&it.text()));
            found.filter(|text| !text.is_empty()).collect::<Vec<_>>()
        };
        let (title, authors) = (all("title").into_iter().next(), all("creator"));
        let description = all("description").into_iter().next();
        let listed = package
            .child("manifest")
            .into_iter()
            .flat_map(Element::elements);
        let items: HashMap<&str, &Element> = listed
            .filter_map(|item| Some((item.attribute("id")?, item)))
            .collect();
        let path = |item: &Element| {
            let target = item.attribute("href")?;
            Some(resolved(&package_path, &unescaped(target)))
        };
        let spine = package.child("spine");
        let chapters: Vec<String> = spine
            .into_iter()
            .flat_map(Element::elements)
            .filter_map(|place| path(items.get(place.attribute("idref")?)?))
            .collect();
        if chapters.is_empty() {
            return Err(Refusal::Invalid(
                "it does not say which chapters it has".to_owned(),
            ));
        }
        if is_locked(&mut archive, &chapters)? {
            return Err(Refusal::Encrypted);
        }
        let navigation = items
            .values()
            .find(|item| {
                let properties = item.attribute("properties").unwrap_or_default();
                properties.split_whitespace().any(|it| it == "nav")
            })
            .or_else(|| items.get(spine?.attribute("toc")?))
            .and_then(|item| path(item));
        let labels = match navigation {
            Some(path) => labels(&mut archive, &path),
            None => HashMap::new(),
        };
        Ok(Self {
            archive,
            title,
            authors,
            description,
            chapters,
            labels,
        })
    }
}

impl Reader for Book {
    fn num_pages(&self) -> u32 {
        self.chapters.len() as u32
    }

    fn title(&self) -> Option<String> {
        self.title.clone()
    }

    fn page(&mut self, number: u32) -> Result<PageContent, String> {
        let path = &self.chapters[number as usize - 1];
        let source = self.archive.read_xml(path)?;
        let source = source.ok_or_else(|| format!("its chapter {path:?} is missing"))?;
        let chapter = html::chapter(&with_end_tags(&source));
        let mut writer = Writer::default();
        if number == 1 {
            writer.line(self.title.as_deref().unwrap_or_default());
            if !self.authors.is_empty() {
                writer.line(&format!("Authors: {}", self.authors.join(", ")));
            }
            writer.end_block();
            if let Some(description) = &self.description {
                writer.insert(html::chapter(description), 1);
            }
        }
        // A chapter without a heading has at least its name in the table of contents.
        if let Some(label) = self
            .labels
            .get(path)
            .filter(|_| chapter.headings.is_empty())
        {
            writer.heading(1, label);
        }
        writer.insert(chapter, 0);
        writer.finish()
    }
}

fn required(archive: &mut Archive, path: &str) -> Result<Element, Refusal> {
    let source = archive.read_xml(path)?;
    let source = source.ok_or_else(|| format!("its part {path:?} is missing"))?;
    Ok(xml::tree(&source, path)?)
}

fn package_path(archive: &mut Archive) -> Result<String, Refusal> {
    let container = required(archive, "META-INF/container.xml")?;
    let first = container.at(&["rootfiles", "rootfile"]);
    let path = first.and_then(|it| it.attribute("full-path"));
    let path = path.ok_or_else(|| "it does not say where its contents are".to_owned())?;
    Ok(path.to_owned())
}

/// Whether a shop has locked chapters. Fonts are often scrambled in books that can be read.
fn is_locked(archive: &mut Archive, chapters: &[String]) -> Result<bool, String> {
    let Some(source) = archive.read_xml("META-INF/encryption.xml")? else {
        return Ok(false);
    };
    let root = xml::tree(&source, "META-INF/encryption.xml")?;
    let mut references = Vec::new();
    root.all("CipherReference", &mut references);
    let locked = references.iter().filter_map(|it| it.attribute("URI"));
    Ok(locked.map(unescaped).any(|path| chapters.contains(&path)))
}

/// The names of chapters in a navigation document or an NCX file; a book can be read without.
fn labels(archive: &mut Archive, path: &str) -> HashMap<String, String> {
    let source = archive.read_xml(path).ok().flatten().unwrap_or_default();
    let root = xml::tree(&source, path).unwrap_or_default();
    let mut labels = HashMap::new();
    let mut add = |target: Option<&str>, label: String| {
        if let Some(target) = target.filter(|_| !label.is_empty()) {
            let file = target.split('#').next().unwrap_or_default();
            let file = resolved(path, &unescaped(file));
            labels.entry(file).or_insert(label);
        }
    };
    let mut links = Vec::new();
    root.all("a", &mut links);
    for link in links {
        add(link.attribute("href"), on_one_line(&link.text()));
    }
    let mut points = Vec::new();
    nav_points(&root, &mut points);
    for point in points {
        let target = point.child("content").and_then(|it| it.attribute("src"));
        let label = point
            .child("navLabel")
            .map(Element::text)
            .unwrap_or_default();
        add(target, on_one_line(&label));
    }
    labels
}

fn nav_points<'e>(parent: &'e Element, found: &mut Vec<&'e Element>) {
    for element in parent.elements() {
        if element.name == "navPoint" {
            found.push(element);
        }
        nav_points(element, found);
    }
}

/// Chapters are XML, where `<title/>` is a whole element; in HTML it would take the rest of the page into the title.
fn with_end_tags(source: &str) -> Cow<'_, str> {
    const VOID: [&str; 13] = [
        "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source",
        "track", "wbr",
    ];
    if !source.contains("/>") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(end) = rest.find("/>") {
        let before = &rest[..end];
        // Up to the tag's beginning there is no `>`, unless it stands in an attribute; then the element stays as it is.
        let tag = before
            .rfind('<')
            .map(|at| &before[at + 1..])
            .unwrap_or_default();
        let name = tag.split(|c: char| c.is_whitespace() || c == '>').next();
        let name = name.unwrap_or_default();
        let is_element = name.starts_with(|c: char| c.is_ascii_alphabetic()) && !tag.contains('>');
        out.push_str(before);
        if is_element && !VOID.contains(&name) {
            out.push_str(&format!("></{name}>"));
        } else {
            out.push_str("/>");
        }
        rest = &rest[end + 2..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// A reference with its `%20` read.
fn unescaped(reference: &str) -> String {
    let bytes = reference.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes
            .get(at + 1..at + 3)
            .and_then(|it| std::str::from_utf8(it).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::archive::tests::zip_of;
    use super::*;

    fn book(extra: &[(&str, &[u8])]) -> Vec<u8> {
        let container = br#"<container><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>"#;
        let package = br#"<package><metadata><dc:title>The Ferry</dc:title><dc:creator>A. Holt</dc:creator></metadata>
            <manifest><item id="2" href="two.xhtml"/><item id="1" href="one%20a.xhtml"/><item id="n" href="toc.ncx"/></manifest>
            <spine toc="n"><itemref idref="1"/><itemref idref="2"/></spine></package>"#;
        let labels = br#"<ncx><navMap><navPoint><navLabel><text>Part one</text></navLabel><content src="one%20a.xhtml#x"/>
            </navPoint></navMap></ncx>"#;
        let mut members: Vec<(&str, &[u8])> = vec![
            ("mimetype", b"application/epub+zip"),
            ("META-INF/container.xml", container),
            ("OPS/book.opf", package),
            ("OPS/toc.ncx", labels),
            ("OPS/one a.xhtml", b"<html><head><title/></head><body><p>First <a id='x'/>words<br/>here</p></body></html>"),
            ("OPS/two.xhtml", b"<html><body><h2>Second</h2><p>more</p></body></html>"),
        ];
        members.extend(extra);
        zip_of(&members)
    }

    #[test]
    fn chapters_are_pages_in_the_order_of_the_book() {
        let mut book = Book::open(book(&[]), &Budget::default()).expect("a book");
        assert_eq!(
            (book.title().as_deref(), book.num_pages()),
            (Some("The Ferry"), 2)
        );
        let first = book.page(1).expect("read");
        assert_eq!(
            first.text,
            "The Ferry\nAuthors: A. Holt\n\nPart one\n\nFirst words\nhere"
        );
        assert_eq!(first.headings[0].title, "Part one");
        let second = book.page(2).expect("read");
        assert_eq!(second.text, "Second\n\nmore");
    }

    #[test]
    fn locked_chapters_are_told() {
        let lock = br#"<encryption><EncryptedData><CipherData><CipherReference URI="OPS/two.xhtml"/></CipherData></EncryptedData></encryption>"#;
        let locked = book(&[("META-INF/encryption.xml", lock)]);
        assert!(matches!(
            Book::open(locked, &Budget::default()),
            Err(Refusal::Encrypted)
        ));
    }
}
