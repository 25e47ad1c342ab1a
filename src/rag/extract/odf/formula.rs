//! Formulas of OpenDocument texts, which are MathML in members of their own, on one line as those of Word are.

use std::collections::HashMap;

use super::super::archive::Archive;
use super::super::office::math::grouped;
use super::super::xml::{self, Element};

/// More than that in one document is no text with formulas in it.
const MAX_FORMULAS: usize = 5_000;
const MAX_BYTES: usize = 256 << 10;

/// The formulas of a document by the name under which its text refers to them.
pub fn all(archive: &mut Archive) -> HashMap<String, String> {
    let mut found = HashMap::new();
    for index in 0..archive.len() {
        let name = archive.member(index).name;
        let Some(object) = name.strip_suffix("/content.xml") else {
            continue;
        };
        // A formula that cannot be read is left out, as one without words is.
        let Ok(bytes) = archive.unpack(index) else {
            continue;
        };
        if bytes.len() > MAX_BYTES {
            continue;
        }
        let source = super::super::html::charset::decode(&bytes);
        let Ok(root) = xml::tree(&source, &name) else {
            continue;
        };
        if root.name == "math" {
            found.insert(object.to_owned(), line(&root));
        }
        if found.len() == MAX_FORMULAS {
            break;
        }
    }
    found
}

fn line(math: &Element) -> String {
    let mut out = String::new();
    add_children(math, &mut out);
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn add_children(element: &Element, out: &mut String) {
    element.elements().for_each(|child| add(child, out));
}

fn add(element: &Element, out: &mut String) {
    let part = |index: usize| {
        let mut text = String::new();
        if let Some(part) = element.elements().nth(index) {
            add(part, &mut text);
        }
        text
    };
    match element.name.as_str() {
        "mi" | "mn" | "mtext" | "ms" => out.push_str(element.text().trim()),
        "mo" => {
            let sign = element.text();
            match sign.trim() {
                sign @ ("=" | "<" | ">" | "≤" | "≥" | "≠" | "≈" | "→") => {
                    out.push_str(&format!(" {sign} "));
                }
                sign => out.push_str(sign),
            }
        }
        "mfrac" => out.push_str(&format!("{}/{}", grouped(&part(0)), grouped(&part(1)))),
        "msup" | "mover" => out.push_str(&format!("{}^{}", part(0), grouped(&part(1)))),
        "msub" | "munder" => out.push_str(&format!("{}_{}", part(0), grouped(&part(1)))),
        "msubsup" | "munderover" => {
            let (under, over) = (grouped(&part(1)), grouped(&part(2)));
            out.push_str(&format!("{}_{under}^{over} ", part(0)));
        }
        "mroot" => out.push_str(&format!("{}√({})", part(1), part(0))),
        "msqrt" => {
            out.push_str("√(");
            add_children(element, out);
            out.push(')');
        }
        "mtr" => {
            add_children(element, out);
            out.push_str("; ");
        }
        "mtd" => {
            add_children(element, out);
            out.push(' ');
        }
        // The same formula in another notation.
        "annotation" | "annotation-xml" => {}
        _ => add_children(element, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_is_one_line() {
        let source = "<math><semantics><mrow><mi>E</mi><mo>=</mo><mi>m</mi><msup><mi>c</mi><mn>2</mn></msup><mo>+</mo>\
            <mfrac><mrow><mi>a</mi><mo>-</mo><mn>1</mn></mrow><msqrt><mi>b</mi></msqrt></mfrac>\
            <munderover><mo>∑</mo><mi>i</mi><mi>n</mi></munderover><msub><mi>x</mi><mi>i</mi></msub></mrow>\
            <annotation>E = mc^2</annotation></semantics></math>";
        let root = xml::tree(source, "m").expect("XML");
        assert_eq!(line(&root), "E = mc^2+(a-1)/(√(b))∑_i^n x_i");
    }
}
