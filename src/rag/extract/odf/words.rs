//! The words in elements, without what only lays them out.

use super::super::table::on_one_line;
use super::super::xml::{Element, Node};

/// The paragraphs and headings in an element, at any depth, without remarks.
pub fn collect_paragraphs<'e>(parent: &'e Element, found: &mut Vec<&'e Element>) {
    for element in parent.elements() {
        match element.name.as_str() {
            "p" | "h" => found.push(element),
            "annotation" => {}
            _ => collect_paragraphs(element, found),
        }
    }
}

/// The words in an element on one line, without notes and remarks.
pub fn plain(element: &Element) -> String {
    let mut text = String::new();
    add_plain(element, &mut text);
    on_one_line(&text)
}

fn add_plain(element: &Element, out: &mut String) {
    for node in &element.children {
        match node {
            Node::Text(words) => out.push_str(words),
            Node::Element(child) => match child.name.as_str() {
                "s" | "tab" | "line-break" => out.push(' '),
                "annotation" | "note" => {}
                "p" | "h" => {
                    add_plain(child, out);
                    out.push('\n');
                }
                _ => add_plain(child, out),
            },
        }
    }
}

/// White space in the file is one blank (OpenDocument 1.3 part 3, 6.1.2).
pub fn add_collapsed(words: &str, out: &mut String) {
    for c in words.chars() {
        let is_space = matches!(c, ' ' | '\t' | '\n' | '\r');
        if !is_space {
            out.push(c);
        } else if !out.ends_with([' ', '\n', '\t']) {
            out.push(' ');
        }
    }
}
