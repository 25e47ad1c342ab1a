//! Equations on one line: enough to be read and found, as `(a+b)/(2)` or `x^2`.

use super::super::xml::{Element, Node};

pub fn line(equation: &Element) -> String {
    let mut out = String::new();
    add_children(equation, &mut out);
    out
}

fn add_children(element: &Element, out: &mut String) {
    for node in &element.children {
        if let Node::Element(child) = node {
            add(child, out);
        }
    }
}

fn add(element: &Element, out: &mut String) {
    let part = |name: &str| {
        let mut text = String::new();
        if let Some(child) = element.child(name) {
            add_children(child, &mut text);
        }
        text
    };
    match element.name.as_str() {
        "t" => out.push_str(&element.text()),
        "br" => out.push('\n'),
        "f" => {
            let (num, den) = (grouped(&part("num")), grouped(&part("den")));
            out.push_str(&format!("{num}/{den}"));
        }
        "sSup" => out.push_str(&format!("{}^{}", part("e"), grouped(&part("sup")))),
        "sSub" => out.push_str(&format!("{}_{}", part("e"), grouped(&part("sub")))),
        "sSubSup" => {
            let (sub, sup) = (grouped(&part("sub")), grouped(&part("sup")));
            out.push_str(&format!("{}_{sub}^{sup}", part("e")));
        }
        "limLow" => out.push_str(&format!("{}_{} ", part("e"), grouped(&part("lim")))),
        "limUpp" => out.push_str(&format!("{}^{} ", part("e"), grouped(&part("lim")))),
        "func" => {
            let name = part("fName");
            out.push_str(&format!("{} {}", name.trim_end(), part("e").trim_start()));
        }
        "m" => {
            let rows = element.elements().filter(|row| row.name == "mr");
            let rows = rows.map(|row| {
                let cells = row.elements().filter(|cell| cell.name == "e");
                cells.map(line).collect::<Vec<_>>().join(", ")
            });
            out.push_str(&format!("[{}]", rows.collect::<Vec<_>>().join("; ")));
        }
        "rad" => out.push_str(&format!("{}√({})", part("deg"), part("e"))),
        "nary" => {
            let sign = element
                .at(&["naryPr", "chr"])
                .and_then(|sign| sign.attribute("val"))
                .unwrap_or("∫");
            out.push_str(sign);
            for (mark, name) in [('_', "sub"), ('^', "sup")] {
                let text = part(name);
                if !text.is_empty() {
                    out.push(mark);
                    out.push_str(&grouped(&text));
                }
            }
            out.push(' ');
            out.push_str(&part("e"));
        }
        "d" => {
            let sign = |name: &str, usual: &str| {
                let sign = element.at(&["dPr", name]);
                let sign = sign.and_then(|sign| sign.attribute("val"));
                sign.unwrap_or(usual).to_owned()
            };
            let inside = element.elements().filter(|child| child.name == "e");
            let inside: Vec<String> = inside.map(line).collect();
            let between = sign("sepChr", "|");
            out.push_str(&sign("begChr", "("));
            out.push_str(&inside.join(&between));
            out.push_str(&sign("endChr", ")"));
        }
        "rPr" | "ctrlPr" | "del" | "moveFrom" | "instrText" | "delText" => {}
        _ => add_children(element, out),
    }
}

/// In brackets, unless it is one letter.
pub(in crate::rag::extract) fn grouped(text: &str) -> String {
    match text.chars().nth(1) {
        Some(_) => format!("({text})"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::xml;
    use super::*;

    #[test]
    fn an_equation_is_one_line() {
        let source = "<oMath><r><t>x=</t></r><f><num><r><t>a+b</t></r></num><den><rad><e><r><t>2</t></r></e></rad></den></f>\
                      <sSup><e><r><t>y</t></r></e><sup><r><t>10</t></r></sup></sSup>\
                      <nary><naryPr><chr val='∑'/></naryPr><sub><r><t>i</t></r></sub><e><d><e><r><t>i</t></r></e></d></e></nary>\
                      <func><fName><limLow><e><r><t>lim</t></r></e><lim><r><t>n</t></r></lim></limLow></fName>\
                      <e><f><num><r><t>1</t></r></num><den><r><t>n</t></r></den></f></e></func></oMath>";
        let root = xml::tree(source, "m").expect("XML");
        assert_eq!(line(&root), "x=(a+b)/(√(2))y^(10)∑_i (i)lim_n 1/n");
    }
}
