//! Words in drawings: charts, diagrams, tables, pictures' descriptions.

use std::collections::BTreeMap;

use super::super::table::on_one_line;
use super::super::writer::Writer;
use super::super::xml::Element;
use super::{Package, Relations};

/// What a frame shows that stands in a part of its own: a chart or a diagram.
pub fn write_referenced(
    frame: &Element,
    package: &mut Package,
    relations: &Relations,
    writer: &mut Writer,
) -> Result<(), String> {
    for (name, attribute) in [("chart", "id"), ("relIds", "dm")] {
        let mut found = Vec::new();
        frame.all(name, &mut found);
        for reference in found {
            let target = reference
                .attribute(attribute)
                .and_then(|id| relations.target(id));
            let Some(target) = target.map(str::to_owned) else {
                continue;
            };
            if let Some(part) = package.tree(&target)? {
                match name {
                    "chart" => write_chart(&part, writer),
                    _ => write_diagram(&part, writer),
                }
            }
        }
    }
    Ok(())
}

/// A chart as a table: a row for each category, with the names of the series.
fn write_chart(chart: &Element, writer: &mut Writer) {
    writer.end_block();
    let title = chart.at(&["chart", "title"]).map(words).unwrap_or_default();
    writer.line(&format!("Chart: {title}"));
    let mut series = Vec::new();
    chart.all("ser", &mut series);
    let mut rows: BTreeMap<usize, (String, Vec<String>)> = BTreeMap::new();
    for element in series {
        let name = element.child("tx").map(values).unwrap_or_default();
        let name = name.into_values().next().unwrap_or_default();
        let categories = element.child("cat").or(element.child("xVal")).map(values);
        let categories = categories.unwrap_or_default();
        let numbers = element.child("val").or(element.child("yVal")).map(values);
        for (index, value) in numbers.unwrap_or_default() {
            let row = rows.entry(index).or_default();
            if row.0.is_empty() {
                row.0 = categories.get(&index).cloned().unwrap_or_default();
            }
            row.1.push(match name.is_empty() {
                true => value,
                false => format!("{name}: {value}"),
            });
        }
    }
    for (category, values) in rows.into_values() {
        let fields = (!category.is_empty()).then_some(category).into_iter();
        writer.line(&fields.chain(values).collect::<Vec<_>>().join(" | "));
    }
    writer.end_block();
}

/// The cached points of a reference, by index.
fn values(reference: &Element) -> BTreeMap<usize, String> {
    let mut points = Vec::new();
    reference.all("pt", &mut points);
    let points = points.into_iter().filter_map(|point| {
        let index = point.attribute("idx")?.parse().ok()?;
        Some((index, on_one_line(&point.child("v")?.text())))
    });
    let points: BTreeMap<usize, String> = points.collect();
    match points.is_empty() {
        // A name may stand there itself.
        true => reference
            .child("v")
            .map(|value| (0, on_one_line(&value.text())))
            .into_iter()
            .collect(),
        false => points,
    }
}

fn write_diagram(diagram: &Element, writer: &mut Writer) {
    let mut points = Vec::new();
    diagram.all("pt", &mut points);
    writer.end_block();
    for point in points {
        let words = words(point);
        if !words.is_empty() {
            writer.line(&format!("- {words}"));
        }
    }
    writer.end_block();
}

/// The text of all paragraphs in DrawingML, on one line.
pub fn words(element: &Element) -> String {
    let mut paragraphs = Vec::new();
    element.all("p", &mut paragraphs);
    let lines: Vec<String> = paragraphs.into_iter().map(paragraph).collect();
    on_one_line(&lines.join(" "))
}

/// A paragraph of DrawingML.
pub fn paragraph(paragraph: &Element) -> String {
    let mut text = String::new();
    for part in paragraph.elements() {
        match part.name.as_str() {
            "r" => text.push_str(&part.child("t").map(Element::text).unwrap_or_default()),
            "br" => text.push('\n'),
            "fld"
                if part
                    .attribute("type")
                    .is_some_and(|kind| kind.starts_with("slidenum")) => {}
            "fld" => text.push_str(&part.child("t").map(Element::text).unwrap_or_default()),
            "m" | "oMath" | "oMathPara" => text.push_str(&super::math::line(part)),
            "AlternateContent" => {
                if let Some(choice) = part.child("Choice") {
                    text.push_str(&super::math::line(choice));
                }
            }
            _ => {}
        }
    }
    text
}

/// What somebody wrote about a picture.
pub fn description(properties: &Element) -> Option<String> {
    // What Word adds when it has described the picture itself.
    const BY_MACHINE: &str = "Description automatically generated";
    let description = on_one_line(properties.attribute("descr")?);
    let description = description.trim_end_matches(BY_MACHINE).trim_end();
    (!description.is_empty()).then(|| format!("[Image: {description}]"))
}
