//! Sitemaps (sitemaps.org): XML of pages or of other sitemaps, or a text of addresses; packed or not.

use std::io::Read;

use flate2::read::MultiGzDecoder;

use super::xml::for_each_element;

/// As the protocol allows: 50,000 addresses, 50 MiB unpacked.
const MAX_URLS: usize = 50_000;
const MAX_BYTES: u64 = 50 << 20;

#[derive(Debug, PartialEq, Eq)]
pub enum Sitemap {
    /// Addresses of pages.
    Pages(Vec<String>),
    /// Addresses of other sitemaps.
    Index(Vec<String>),
}

/// What a sitemap lists; beyond the protocol's limits, nothing more.
pub fn read_sitemap(bytes: &[u8]) -> Result<Sitemap, String> {
    let mut unpacked = Vec::new();
    let is_packed = bytes.starts_with(&[0x1f, 0x8b]);
    let source: Box<dyn Read> = match is_packed {
        true => Box::new(MultiGzDecoder::new(bytes)),
        false => Box::new(bytes),
    };
    let read = source.take(MAX_BYTES + 1).read_to_end(&mut unpacked);
    read.map_err(|error| format!("it cannot be unpacked: {error}"))?;
    if unpacked.len() as u64 > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    let text = String::from_utf8_lossy(&unpacked);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    match text.starts_with('<') {
        true => of_xml(text),
        false => {
            let is_url = |line: &&str| line.starts_with("http://") || line.starts_with("https://");
            let lines = text.lines().map(str::trim).filter(is_url);
            Ok(Sitemap::Pages(
                lines.take(MAX_URLS).map(str::to_owned).collect(),
            ))
        }
    }
}

fn of_xml(text: &str) -> Result<Sitemap, String> {
    let (mut pages, mut sitemaps) = (Vec::new(), Vec::new());
    for_each_element(text, |element| {
        // `image:loc` stands in an element of its own, and is no page.
        let list = match element.path {
            [.., parent, name] if name == "loc" => match parent.as_str() {
                "url" => &mut pages,
                "sitemap" => &mut sitemaps,
                _ => return,
            },
            _ => return,
        };
        if list.len() < MAX_URLS && !element.text.is_empty() {
            list.push(element.text.to_owned());
        }
    })?;
    Ok(match sitemaps.is_empty() {
        true => Sitemap::Pages(pages),
        false => Sitemap::Index(sitemaps),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const PAGES: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:image="x">
        <url><loc> https://x.example/a?b=1&amp;c=2 </loc><lastmod>2026-01-01</lastmod>
        <image:image><image:loc>https://x.example/i.png</image:loc></image:image></url>
        <url><loc><![CDATA[https://x.example/b]]></loc></url></urlset>"#;

    #[test]
    fn every_kind_of_sitemap_is_read() {
        let pages = Sitemap::Pages(vec![
            "https://x.example/a?b=1&c=2".into(),
            "https://x.example/b".into(),
        ]);
        assert_eq!(read_sitemap(PAGES.as_bytes()).unwrap(), pages);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(PAGES.as_bytes()).unwrap();
        assert_eq!(read_sitemap(&packed.finish().unwrap()).unwrap(), pages);
        let text = b"\xef\xbb\xbfhttps://x.example/a?b=1&c=2\r\n\r\nhttps://x.example/b\n";
        assert_eq!(read_sitemap(text).unwrap(), pages);
        let index =
            b"<sitemapindex><sitemap><loc>https://x.example/s.gz</loc></sitemap></sitemapindex>";
        let expected = Sitemap::Index(vec!["https://x.example/s.gz".into()]);
        assert_eq!(read_sitemap(index).unwrap(), expected);
    }

    #[test]
    fn a_bomb_and_a_damaged_sitemap_are_errors() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let zeros = vec![b' '; 1 << 20];
        for _ in 0..51 {
            packed.write_all(&zeros).unwrap();
        }
        let error = read_sitemap(&packed.finish().unwrap()).unwrap_err();
        assert!(error.contains("more than"), "{error}");
        assert!(read_sitemap(b"<urlset><url><loc>https://x.example/").is_err());
        assert!(read_sitemap(&"<a>".repeat(100).into_bytes()).is_err());
    }
}
