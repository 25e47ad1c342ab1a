//! Parts of a page that only lead elsewhere, on pages that do not mark them as HTML has it since version 5. Both their names
//! and what is in them must say so: what is left out of a document can never be found.

use dom_query::NodeRef;

/// Words of class names and ids.
const NAMES: [&str; 14] = [
    "nav",
    "navbar",
    "navbars",
    "navigation",
    "navheader",
    "navfooter",
    "menu",
    "submenu",
    "sidebar",
    "sphinxsidebar",
    "breadcrumb",
    "breadcrumbs",
    "footer",
    "pagination",
];
/// A remark may refer to another page or two.
const MIN_LINKS: usize = 3;
/// Of its letters, at least so many in a hundred are in links.
const MIN_LINK_PERCENT: usize = 60;

/// How many nodes of one page are looked at in all, so that nesting cannot make this take long.
pub struct Budget(usize);

impl Default for Budget {
    fn default() -> Self {
        Self(500_000)
    }
}

/// The letters of a part that is navigation by its name and by its links.
pub fn letters_of_navigation(node: &NodeRef, element: &str, budget: &mut Budget) -> Option<usize> {
    let is_block = matches!(
        element,
        "div" | "ul" | "ol" | "dl" | "table" | "tr" | "td" | "section" | "header" | "p"
    );
    if !is_block || !is_named_so(node) {
        return None;
    }
    let (mut num_letters, mut num_linked, mut num_links) = (0, 0, 0);
    for part in node.descendants_it() {
        budget.0 = budget.0.checked_sub(1)?;
        if part.is_text() {
            let is_shown = part
                .parent()
                .and_then(|it| it.node_name())
                .is_none_or(|name| !matches!(&*name, "script" | "style" | "noscript" | "template"));
            if is_shown {
                num_letters += letters(&part.text());
            }
        } else if part.node_name().as_deref() == Some("a") && part.has_attr("href") {
            num_links += 1;
            num_linked += letters(&part.text());
        }
    }
    (num_links >= MIN_LINKS && num_linked * 100 >= num_letters * MIN_LINK_PERCENT)
        .then_some(num_letters)
}

fn letters(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

fn is_named_so(node: &NodeRef) -> bool {
    let names = [node.attr("class"), node.attr("id")];
    names.iter().flatten().any(|name| {
        name.split(|c: char| !c.is_ascii_alphanumeric())
            .any(|word| NAMES.iter().any(|it| it.eq_ignore_ascii_case(word)))
    })
}
