//! A parsed page to lines of text. Walks without recursion, so that no nesting can overflow the stack.

use dom_query::{Document, NodeRef};

use super::super::Heading;
use super::lists::Lists;
use super::navigation::{Budget, letters_of_navigation};

pub struct Rendered {
    pub text: String,
    pub headings: Vec<Heading>,
    /// Letters of what was left out as navigation by its name and links.
    pub num_letters_left: usize,
}

/// Which part of a page is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Everything,
    /// Without navigation and the like, as far as the page marks them.
    Marked,
    /// Also without what is navigation by its name and links.
    Content,
}

/// The page's title on one line.
pub fn title(document: &Document) -> Option<String> {
    let title = document.select("title").iter().next()?.text();
    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then_some(title)
}

pub fn is_deeper_than(document: &Document, limit: usize) -> bool {
    let mut depth = 0;
    let mut walk = Walk::new(document.root());
    while let Some(step) = walk.next(true) {
        match step {
            Step::Enter(_) => depth += 1,
            Step::Leave(_) => depth -= 1,
        }
        if depth > limit {
            return true;
        }
    }
    false
}

pub fn render(document: &Document, scope: Scope) -> Rendered {
    let mut writer = Writer::default();
    let mut walk = Walk::new(document.root());
    let mut enter_children = true;
    let mut budget = Budget::default();
    let mut num_letters_left = 0;
    while let Some(step) = walk.next(enter_children) {
        enter_children = true;
        match step {
            Step::Enter(node) if node.is_text() => writer.text(&node.text()),
            Step::Enter(node) => {
                if let Some(name) = node.node_name() {
                    enter_children = !is_left_out(&node, &name, scope);
                    if enter_children
                        && scope == Scope::Content
                        && let Some(num) = letters_of_navigation(&node, &name, &mut budget)
                    {
                        num_letters_left += num;
                        enter_children = false;
                    }
                    if enter_children {
                        writer.open(&node, &name);
                    }
                } else {
                    enter_children = !node.is_comment();
                }
            }
            Step::Leave(node) => {
                if let Some(name) = node.node_name() {
                    writer.close(&name);
                }
            }
        }
    }
    Rendered {
        text: writer.text,
        headings: writer.headings,
        num_letters_left,
    }
}

fn is_left_out(node: &NodeRef, name: &str, scope: Scope) -> bool {
    match name {
        "head" | "script" | "style" | "noscript" | "template" | "svg" | "iframe" | "object"
        | "canvas" | "audio" | "video" | "input" | "select" | "textarea" | "button" | "dialog"
        | "datalist" | "annotation" | "annotation-xml" => return true,
        "nav" | "footer" | "aside" if scope != Scope::Everything => return true,
        _ => {}
    }
    if scope != Scope::Everything
        && let Some(role) = node.attr("role")
        && matches!(
            role.as_ref(),
            "navigation" | "search" | "banner" | "contentinfo" | "menu" | "alert" | "dialog"
        )
    {
        return true;
    }
    let hides = |style: &str| {
        let style: String = style
            .chars()
            .filter(|c| !c.is_whitespace())
            .collect::<String>()
            .to_ascii_lowercase();
        style.contains("display:none") || style.contains("visibility:hidden")
    };
    node.has_attr("hidden") || node.attr("style").is_some_and(|style| hides(&style))
}

enum Step<'a> {
    Enter(NodeRef<'a>),
    Leave(NodeRef<'a>),
}

/// Depth-first walk: every node is entered, and left again if its children were visited.
struct Walk<'a> {
    root: NodeRef<'a>,
    at: Option<Step<'a>>,
}

impl<'a> Walk<'a> {
    fn new(root: NodeRef<'a>) -> Self {
        Self { root, at: None }
    }

    /// The next step; `enter_children` says whether to go into the node that was entered last.
    fn next(&mut self, enter_children: bool) -> Option<Step<'a>> {
        let next = match self.at.take() {
            None => Step::Enter(self.root),
            Some(Step::Enter(node)) => match node.first_child().filter(|_| enter_children) {
                Some(child) => Step::Enter(child),
                None if enter_children => Step::Leave(node),
                None => self.after(node)?,
            },
            Some(Step::Leave(node)) => self.after(node)?,
        };
        self.at = Some(match &next {
            Step::Enter(node) => Step::Enter(*node),
            Step::Leave(node) => Step::Leave(*node),
        });
        Some(next)
    }

    fn after(&self, node: NodeRef<'a>) -> Option<Step<'a>> {
        if node.id == self.root.id {
            return None;
        }
        match node.next_sibling() {
            Some(sibling) => Some(Step::Enter(sibling)),
            None => node.parent().map(Step::Leave),
        }
    }
}

/// What must stand between the text so far and the next word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Gap {
    #[default]
    None,
    Space,
    Cell,
    Line,
    Paragraph,
}

#[derive(Default)]
struct Writer {
    text: String,
    headings: Vec<Heading>,
    gap: Gap,
    /// Written before the next word, after the gap.
    marker: Option<String>,
    lists: Lists,
    num_open_pre: usize,
    num_open_cells: usize,
    heading: Option<OpenHeading>,
}

struct OpenHeading {
    level: u8,
    /// Known when the heading's first word is written.
    offset: Option<usize>,
}

impl Writer {
    fn open(&mut self, node: &NodeRef, name: &str) {
        self.widen(gap_around(name, self.num_open_cells > 0));
        match name {
            "ul" | "ol" | "menu" => self.lists.open(node, name),
            "li" => self.marker = Some(self.lists.marker(node)),
            "pre" => self.num_open_pre += 1,
            "td" | "th" => self.num_open_cells += 1,
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.heading = Some(OpenHeading {
                    level: name.as_bytes()[1] - b'0',
                    offset: None,
                });
            }
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        match name {
            "pre" => self.num_open_pre = self.num_open_pre.saturating_sub(1),
            "td" | "th" => self.num_open_cells = self.num_open_cells.saturating_sub(1),
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => self.close_heading(),
            "ul" | "ol" | "menu" => self.lists.close(),
            "li" => self.marker = None,
            _ => {}
        }
        self.widen(gap_around(name, self.num_open_cells > 0));
    }

    fn close_heading(&mut self) {
        let Some(OpenHeading {
            level,
            offset: Some(offset),
        }) = self.heading.take()
        else {
            return;
        };
        let title = self.text[offset..]
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        self.headings.push(Heading {
            level,
            title,
            offset,
        });
    }

    fn widen(&mut self, gap: Gap) {
        self.gap = self.gap.max(gap);
    }

    fn text(&mut self, text: &str) {
        if self.num_open_pre > 0 {
            return self.preformatted(text);
        }
        if text.starts_with(is_html_space) {
            self.widen(Gap::Space);
        }
        for word in text.split(is_html_space).filter(|word| !word.is_empty()) {
            self.word(word);
            self.widen(Gap::Space);
        }
        if !text.ends_with(is_html_space) && !text.is_empty() && self.gap == Gap::Space {
            self.gap = Gap::None;
        }
    }

    fn preformatted(&mut self, text: &str) {
        let text = if self.gap >= Gap::Line {
            text.trim_start_matches('\n')
        } else {
            text
        };
        if !text.trim().is_empty() {
            self.word(text.trim_end());
        }
        let trailing = &text[text.trim_end().len()..];
        if trailing.contains('\n') {
            self.widen(Gap::Line);
        } else if !trailing.is_empty() {
            self.widen(Gap::Space);
        }
    }

    fn word(&mut self, word: &str) {
        let gap = std::mem::take(&mut self.gap);
        if !self.text.is_empty() {
            self.text.push_str(match gap {
                Gap::None => "",
                Gap::Space => " ",
                Gap::Cell => " | ",
                Gap::Line => "\n",
                Gap::Paragraph => "\n\n",
            });
        }
        if let Some(marker) = self.marker.take() {
            self.text.push_str(&marker);
        }
        if let Some(heading) = &mut self.heading {
            heading.offset.get_or_insert(self.text.len());
        }
        self.text.push_str(word);
    }
}

/// The white space of HTML; a no-break space is a character like others.
fn is_html_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}')
}

/// What an element puts before and after itself. Inside a table's cell, blocks do not end the row.
fn gap_around(name: &str, in_cell: bool) -> Gap {
    let gap = match name {
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "blockquote" | "pre" | "table" | "ul"
        | "ol" | "dl" | "article" | "section" | "figure" | "hr" | "header" | "main" | "form"
        | "fieldset" | "details" => Gap::Paragraph,
        "td" | "th" => return Gap::Cell,
        "tr" => return Gap::Line,
        "br" | "div" | "li" | "dt" | "dd" | "caption" | "figcaption" | "thead" | "tbody"
        | "tfoot" | "address" | "nav" | "footer" | "aside" | "summary" | "option" | "legend"
        | "center" | "body" | "html" => Gap::Line,
        _ => return Gap::None,
    };
    if in_cell && name != "br" && name != "li" {
        Gap::Space
    } else {
        gap
    }
}
