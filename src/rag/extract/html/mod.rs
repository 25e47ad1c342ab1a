//! HTML to text: the main content where it can be told from navigation and advertising, else the whole body.
//! Never shows what a browser would not show.

pub mod charset;
mod lists;
mod navigation;
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
    let declaration = declaration(&document);
    let whole = whole(&document);
    let chosen = if render::is_deeper_than(&document, MAX_ARTICLE_DEPTH) {
        None
    } else {
        article(document).filter(|article| is_enough(article, &whole, declaration))
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
    let Rendered { text, headings, .. } = render::render(&document, render::Scope::Everything);
    PageContent {
        text,
        headings,
        ..PageContent::default()
    }
}

/// Finding the main content looks at ancestors again and again; a page nested deeper than people write is
/// rendered whole.
const MAX_ARTICLE_DEPTH: usize = 256;

/// The page without its navigation; a page that is little else is an index, and that is what it has to say.
fn whole(document: &Document) -> Rendered {
    let content = render::render(document, render::Scope::Content);
    match content.num_letters_left > content.text.len() * 3 {
        true => render::render(document, render::Scope::Marked),
        false => content,
    }
}

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
fn is_enough(article: &Rendered, whole: &Rendered, declaration: Declaration) -> bool {
    const MIN_BYTES: usize = 200;
    const MIN_SHARE_PERCENT: usize = 60;
    const MIN_ARTICLE_SHARE_PERCENT: usize = 15;
    let min_article_bytes = match declaration {
        Declaration::Article => 300,
        // There may be many of them on a page.
        Declaration::HasArticles => 1500,
        Declaration::None => usize::MAX,
    };
    let len = article.text.len();
    let is_share = |percent| len * 100 >= whole.text.len() * percent;
    (len >= MIN_BYTES && is_share(MIN_SHARE_PERCENT))
        || (len >= min_article_bytes && is_share(MIN_ARTICLE_SHARE_PERCENT))
}

/// What a page says that it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Declaration {
    Article,
    HasArticles,
    None,
}

fn declaration(document: &Document) -> Declaration {
    let marked = "[itemtype$='schema.org/Article'], [itemtype$='schema.org/NewsArticle'], \
                  [itemtype$='schema.org/BlogPosting']";
    let is_article = document
        .select("meta[property='og:type'][content='article']")
        .exists();
    if is_article || document.select(marked).length() == 1 {
        Declaration::Article
    } else if document.select("article").exists() {
        Declaration::HasArticles
    } else {
        Declaration::None
    }
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
    headings.extend(article.headings.iter().map(|h| Heading {
        offset: h.offset + shift,
        ..h.clone()
    }));
    Rendered {
        text: format!("{title}\n\n{}", article.text),
        headings,
        ..article
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
    fn items_have_the_numbers_that_a_browser_shows() {
        let doc = read(
            "<ol><li>open</li><li></li><li value=7>turn<ul><li>left</li></ul></li><li><p>close</p></li></ol>\
             <ol type=a start=3><li>c</li></ol><ol type=I><li>one</li></ol><ol reversed><li>last</li></ol>",
        );
        assert_eq!(
            doc.text,
            "1. open\n7. turn\n\n- left\n\n8. close\n\nc. c\n\ni. one\n\n- last"
        );
    }

    #[test]
    fn what_only_leads_elsewhere_is_left_out_and_an_index_is_not() {
        let menu = "<div class='side-menu'><ul><li><a href=a>Ferries</a></li><li><a href=b>Fares</a></li><li><a href=c>Us</a></li></ul></div>";
        let prose =
            "<div id=menu><p>Soup of the day: fish, with bread. <a href=x>Order</a></p></div>";
        let doc = read(&format!(
            "<body>{menu}<p>The keeper winds the clockwork.</p>{prose}</body>"
        ));
        assert_eq!(
            doc.text,
            "The keeper winds the clockwork.\n\nSoup of the day: fish, with bread. Order"
        );
        assert_eq!(read(menu).text, "- Ferries\n- Fares\n- Us");
    }

    #[test]
    fn an_article_is_told_from_what_stands_around_it() {
        let around =
            "<div class=banner>Subscribe to our newsletter and to the push notifications of this site. </div>"
                .repeat(30);
        let story = "<p>The old lighthouse was lit again, after nine years, by its keeper. It shone, they say.</p>";
        let page = |declared: &str| {
            let story = story.repeat(20);
            format!("<body>{around}<div {declared}>{story}</div>{around}</body>")
        };
        let declared = read(&page("itemscope itemtype='http://schema.org/Article'"));
        assert!(!declared.text.contains("Subscribe"), "{}", declared.text);
        let undeclared = read(&page("class=story"));
        assert!(undeclared.text.contains("Subscribe"), "{}", undeclared.text);
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
