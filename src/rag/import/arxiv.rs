//! arXiv: its ids, and what its API says of a paper. Pure.

use crate::fetch::for_each_element;

/// A paper, in one of two schemes: `1706.03762v7` since April 2007, `hep-th/9901001v1` before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArxivId(String);

#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} is no arXiv id; write it as 1706.03762, 1706.03762v7 or hep-th/9901001, or give the address of its page"
)]
pub struct BadArxivId(String);

/// What is known of a paper besides its text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Paper {
    /// The address of its page, with the version.
    pub url: String,
    pub title: String,
    pub abstract_text: String,
    pub authors: Vec<String>,
    pub categories: Vec<String>,
    /// Day of the first and of this version, as `2017-06-12`.
    pub published: String,
    pub updated: String,
}

impl ArxivId {
    /// An id as people write it: with or without version and `arXiv:`, or in the address of a page or PDF.
    pub fn parse(text: &str) -> Result<Self, BadArxivId> {
        let bad = || BadArxivId(text.chars().take(100).collect());
        let mut id = text.trim();
        for scheme in ["https://", "http://"] {
            if let Some(rest) = id.strip_prefix(scheme) {
                let (host, path) = rest.split_once('/').ok_or_else(bad)?;
                let is_arxiv = matches!(host, "arxiv.org" | "www.arxiv.org" | "export.arxiv.org");
                let path = path.split(['?', '#']).next().unwrap_or_default();
                let (kind, path) = path.split_once('/').ok_or_else(bad)?;
                if !is_arxiv || !matches!(kind, "abs" | "pdf" | "html") {
                    return Err(bad());
                }
                id = path
                    .strip_suffix(".pdf")
                    .unwrap_or(path)
                    .trim_end_matches('/');
            }
        }
        if id
            .get(..6)
            .is_some_and(|it| it.eq_ignore_ascii_case("arxiv:"))
        {
            id = id[6..].trim_start();
        }
        let (number, version) = match id.rsplit_once('v') {
            Some((number, version)) if is_digits(version, 1..=3) => (number, Some(version)),
            _ => (id, None),
        };
        let is_version = version.is_none_or(|version| !version.starts_with('0'));
        if is_version && (is_new(number) || is_old(number)) {
            Ok(Self(id.to_owned()))
        } else {
            Err(bad())
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name for its PDF.
    pub fn file_name(&self) -> String {
        format!("arXiv_{}.pdf", self.0.replace('/', "_"))
    }
}

/// `1706.03762`; four digits behind the point until 2014.
fn is_new(number: &str) -> bool {
    let Some((month, number)) = number.split_once('.') else {
        return false;
    };
    is_digits(month, 4..=4) && is_month(&month[2..]) && is_digits(number, 4..=5)
}

/// `hep-th/9901001`, `math.GT/0309136`.
fn is_old(number: &str) -> bool {
    let Some((archive, number)) = number.split_once('/') else {
        return false;
    };
    let (archive, class) = match archive.split_once('.') {
        Some((archive, class)) => (archive, Some(class)),
        None => (archive, None),
    };
    let is_archive = (2..=12).contains(&archive.len())
        && archive.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    let is_class =
        class.is_none_or(|class| class.len() == 2 && class.bytes().all(|b| b.is_ascii_uppercase()));
    is_archive && is_class && is_digits(number, 7..=7) && is_month(&number[2..4])
}

fn is_digits(text: &str, lengths: std::ops::RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_month(text: &str) -> bool {
    text.parse()
        .is_ok_and(|month: u8| (1..=12).contains(&month))
}

/// The paper in an answer of the API (Atom), or why there is none.
pub fn read_paper(feed: &str) -> Result<Paper, String> {
    let mut paper = Paper::default();
    let read = for_each_element(feed, |element| {
        let [root, entry, rest @ ..] = element.path else {
            return;
        };
        if root != "feed" || entry != "entry" {
            return;
        }
        let names: Vec<&str> = rest.iter().map(String::as_str).collect();
        let text = || {
            element
                .text
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        let day = || element.text.chars().take(10).collect::<String>();
        match names.as_slice() {
            ["id"] => paper.url = text(),
            ["title"] => paper.title = text(),
            ["summary"] => paper.abstract_text = text(),
            ["published"] => paper.published = day(),
            ["updated"] => paper.updated = day(),
            ["author", "name"] => paper.authors.push(text()),
            ["category"] => {
                let term = element.attributes.iter().find(|(name, _)| name == "term");
                paper.categories.extend(term.map(|(_, term)| term.clone()));
            }
            _ => {}
        }
    });
    read.map_err(|error| format!("arXiv's answer cannot be read: {error}"))?;
    // Errors come as entries of their own kind.
    if paper.url.contains("/api/errors") {
        return Err(format!("arXiv says: {}", paper.abstract_text));
    }
    if paper.title.is_empty() {
        return Err("arXiv knows no paper of this id".into());
    }
    Ok(paper)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_both_schemes_are_read_however_they_are_written() {
        for (written, expected) in [
            ("1706.03762", "1706.03762"),
            (" 1706.03762v7 ", "1706.03762v7"),
            ("0704.0001", "0704.0001"),
            ("arXiv:1706.03762", "1706.03762"),
            ("ARXIV: hep-th/9901001v2", "hep-th/9901001v2"),
            ("math.GT/0309136", "math.GT/0309136"),
            ("https://arxiv.org/abs/1706.03762v7", "1706.03762v7"),
            (
                "http://www.arxiv.org/pdf/hep-th/9901001.pdf",
                "hep-th/9901001",
            ),
            (
                "https://arxiv.org/pdf/1706.03762v7?download=1#page=2",
                "1706.03762v7",
            ),
        ] {
            assert_eq!(
                ArxivId::parse(written).unwrap().as_str(),
                expected,
                "{written}"
            );
        }
        for bad in [
            "",
            "1706",
            "1706.037",
            "1706.037621",
            "1713.03762",
            "1706.03762v0",
            "1706.03762v",
            "hep-th/99010011",
            "hep-th/9913001",
            "HEP/9901001",
            "../../etc/passwd",
            "https://example.org/abs/1706.03762",
            "https://arxiv.org/list/1706.03762",
            "10.48550/arXiv.1706.03762",
        ] {
            let error = ArxivId::parse(bad).unwrap_err().to_string();
            assert!(error.contains("1706.03762v7"), "{bad}");
        }
        assert_eq!(
            ArxivId::parse("hep-th/9901001").unwrap().file_name(),
            "arXiv_hep-th_9901001.pdf"
        );
    }

    #[test]
    fn an_error_and_an_empty_answer_are_told_apart_from_a_paper() {
        let error = "<feed><entry><id>http://arxiv.org/api/errors#x</id><title>Error</title>\
            <summary>incorrect id format for 1</summary></entry></feed>";
        assert_eq!(
            read_paper(error).unwrap_err(),
            "arXiv says: incorrect id format for 1"
        );
        let none = "<feed><title>ArXiv Query</title></feed>";
        assert!(read_paper(none).unwrap_err().contains("no paper"));
        assert!(
            read_paper("<feed><entry>")
                .unwrap_err()
                .contains("cannot be read")
        );
    }
}
