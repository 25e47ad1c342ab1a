//! HTML to text: the main content where it can be told from navigation and advertising, else the whole body.
//! Never shows what a browser would not show.

pub mod charset;
mod render;

use dom_query::Document;
use dom_smoothie::{Config, Readability};

use super::protocol::PageContent;
use super::{ExtractError, ExtractedText, Format, Heading, single_page};
use render::Rendered;

pub fn extract(bytes: &[u8]) -> Result<ExtractedText, ExtractError> {
    let source = charset::decode(bytes);
    let document = Document::from(source.as_str());
    let title = render::title(&document);
    let declares_article = declares_article(&document);
    let whole = render::render(&document, render::Scope::Content);
    let chosen = if render::is_deeper_than(&document, MAX_ARTICLE_DEPTH) {
        None
    } else {
        article(document).filter(|article| is_enough(article, &whole, declares_article))
    };
    let rendered = match chosen {
        Some(article) => with_title(article, title.as_deref()),
        None => whole,
    };
    if rendered.text.trim().is_empty() {
        let reason = "it shows no words without running its scripts".to_owned();
        return Err(ExtractError::NoText {
            format: Format::Html,
            reason,
        });
    }
    Ok(single_page(
        Format::Html,
        title,
        rendered.text,
        rendered.headings,
    ))
}

/// A page that is a chapter of a book or the body of an e-mail: all of it is content.
pub fn chapter(source: &str) -> PageContent {
    let document = Document::from(source);
    let Rendered { text, headings } = render::render(&document, render::Scope::Everything);
    PageContent {
        text,
        headings,
        ..PageContent::default()
    }
}

/// Finding the main content looks at ancestors again and again; a page nested deeper than people write is
/// rendered whole.
const MAX_ARTICLE_DEPTH: usize = 256;

/// The main content as Readability finds it.
fn article(document: Document) -> Option<Rendered> {
    const MAX_ELEMENTS: usize = 100_000;
    let config = Config {
        max_elements_to_parse: MAX_ELEMENTS,
        disable_json_ld: true,
        ..Config::default()
    };
    let article = Readability::with_document(document, None, Some(config))
        .ok()?
        .parse()
        .ok()?;
    Some(render::render(
        &Document::from(article.content.as_ref()),
        render::Scope::Everything,
    ))
}

/// Readability is made for articles; on other pages it may keep one section and lose the rest. What is lost can never
/// be found again, what is kept too much costs little: only a page that says it is an article may lose most of itself.
fn is_enough(article: &Rendered, whole: &Rendered, declares_article: bool) -> bool {
    const MIN_BYTES: usize = 200;
    const MIN_SHARE_PERCENT: usize = 60;
    const MIN_ARTICLE_BYTES: usize = 1500;
    const MIN_ARTICLE_SHARE_PERCENT: usize = 15;
    let len = article.text.len();
    let is_share = |percent| len * 100 >= whole.text.len() * percent;
    (len >= MIN_BYTES && is_share(MIN_SHARE_PERCENT))
        || (declares_article && len >= MIN_ARTICLE_BYTES && is_share(MIN_ARTICLE_SHARE_PERCENT))
}

fn declares_article(document: &Document) -> bool {
    document
        .select("article, meta[property='og:type'][content='article']")
        .exists()
}

/// Readability drops the heading that repeats the page's title; a reader of a passage wants it back.
fn with_title(article: Rendered, title: Option<&str>) -> Rendered {
    const BEGINNING: usize = 400;
    let Some(title) = title else { return article };
    let beginning: String = article.text.chars().take(BEGINNING).collect();
    if beginning.contains(title) {
        return article;
    }
    let shift = title.len() + 2;
    let mut headings = vec![Heading {
        level: 1,
        title: title.to_owned(),
        offset: 0,
    }];
    headings.extend(article.headings.into_iter().map(|h| Heading {
        offset: h.offset + shift,
        ..h
    }));
    Rendered {
        text: format!("{title}\n\n{}", article.text),
        headings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(html: &str) -> ExtractedText {
        extract(html.as_bytes()).expect("readable")
    }

    #[test]
    fn blocks_become_lines_and_headings_know_their_place() {
        let doc = read(
            "<html><head><title>The  page</title></head><body><h1>Top &amp; more</h1><p>One\n  two<b>three</b>.</p>\
             <ul><li>first</li><li>second<p>more</p></li></ul><h2>Sub</h2>line<br>break<pre>a\n  b</pre></body></html>",
        );
        assert_eq!(doc.title.as_deref(), Some("The page"));
        assert_eq!(
            doc.text,
            "Top & more\n\nOne twothree.\n\n- first\n- second\n\nmore\n\nSub\n\nline\nbreak\n\na\n  b"
        );
        let found: Vec<_> = doc
            .headings
            .iter()
            .map(|h| (h.level, &doc.text[h.offset..][..h.title.len()]))
            .collect();
        assert_eq!(found, [(1, "Top & more"), (2, "Sub")]);
    }

    #[test]
    fn table_rows_stay_rows() {
        let doc = read(
            "<table><tr><th>Name</th><th>Age</th></tr><tr><td>Ann</td><td>7</td></tr></table>",
        );
        assert_eq!(doc.text, "Name | Age\nAnn | 7");
    }

    #[test]
    fn what_a_browser_hides_is_left_out() {
        let doc = read(
            "<p>Seen</p><script>var a='secret'</script><style>.secret{}</style><p hidden>secret</p>\
             <p style='color:red; DISPLAY : none'>secret</p><!-- secret --><template>secret</template>",
        );
        assert_eq!(doc.text, "Seen");
    }

    #[test]
    fn deep_nesting_is_read() {
        let html = format!(
            "{}deep words{}",
            "<div>".repeat(5_000),
            "</div>".repeat(5_000)
        );
        assert_eq!(read(&html).text, "deep words");
    }

    #[test]
    fn a_page_without_words_is_refused() {
        let error =
            extract(b"<html><body><script>start()</script></body></html>").expect_err("refused");
        assert!(
            matches!(
                error,
                ExtractError::NoText {
                    format: Format::Html,
                    ..
                }
            ),
            "{error}"
        );
    }
}
