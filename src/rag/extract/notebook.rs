//! Jupyter notebooks: the cells in order, as the Markdown that they are, code and what it printed in fences.

use serde_json::Value;

use super::protocol::Refusal;
use super::reader::Whole;
use super::{markdown, text};

pub fn open(bytes: &[u8]) -> Result<Whole, Refusal> {
    let source = text::decode(bytes);
    let notebook: Value = serde_json::from_str(&source).map_err(|error| error.to_string())?;
    let worksheets = notebook["worksheets"].as_array().into_iter().flatten();
    // Notebooks before version 4 have their cells in sheets.
    let cells = notebook["cells"]
        .as_array()
        .into_iter()
        .chain(worksheets.filter_map(|sheet| sheet["cells"].as_array()))
        .flatten();
    let language = notebook["metadata"]["kernelspec"]["language"]
        .as_str()
        .or(notebook["metadata"]["language_info"]["name"].as_str())
        .unwrap_or_default();
    let mut blocks = Vec::new();
    for cell in cells {
        add_cell(cell, language, &mut blocks);
    }
    if blocks.is_empty() {
        return Err(Refusal::NoText(
            "there are no cells with words in it".to_owned(),
        ));
    }
    let mut document = markdown::extract(blocks.join("\n\n"));
    if let Some(title) = notebook["metadata"]["title"].as_str() {
        document.title = Some(title.to_owned());
    }
    Ok(document.into())
}

fn add_cell(cell: &Value, language: &str, blocks: &mut Vec<String>) {
    let source = lines(&cell["source"]);
    let source = if source.is_empty() {
        lines(&cell["input"])
    } else {
        source
    };
    let source = text::clean(source.trim_end());
    let kind = cell["cell_type"].as_str().unwrap_or_default();
    if !source.trim().is_empty() {
        blocks.push(match kind {
            "code" => fenced(&source, language),
            "heading" => {
                let level = cell["level"].as_u64().unwrap_or(1).clamp(1, 6) as usize;
                format!("{} {source}", "#".repeat(level))
            }
            _ => source,
        });
    }
    for output in cell["outputs"].as_array().into_iter().flatten() {
        let printed = text::clean(printed(output).trim_end());
        if !printed.trim().is_empty() {
            blocks.push(format!("Output:\n\n{}", fenced(&printed, "")));
        }
    }
}

/// What an output shows as text; pictures and pages have none.
fn printed(output: &Value) -> String {
    match output["output_type"].as_str() {
        Some("error" | "pyerr") => {
            let part = |name: &str| output[name].as_str().unwrap_or_default().to_owned();
            format!("{}: {}", part("ename"), part("evalue"))
        }
        _ => [
            &output["text"],
            &output["data"]["text/markdown"],
            &output["data"]["text/plain"],
        ]
        .into_iter()
        .map(lines)
        .find(|text| !text.is_empty())
        .unwrap_or_default(),
    }
}

/// A fence that the text cannot end.
fn fenced(text: &str, language: &str) -> String {
    let longest = text
        .lines()
        .map(|line| line.trim_start().chars().take_while(|c| *c == '`').count())
        .max()
        .unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    let language: String = language.chars().filter(|c| c.is_alphanumeric()).collect();
    format!("{fence}{language}\n{text}\n{fence}")
}

/// Text is a string or a list of its lines.
fn lines(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(lines) => lines.iter().filter_map(Value::as_str).collect(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::Reader;
    use super::*;

    #[test]
    fn cells_become_markdown_with_headings() {
        let source = br###"{"nbformat":4,"metadata":{"kernelspec":{"language":"python"}},"cells":[
            {"cell_type":"markdown","source":["# Test\n","words"]},
            {"cell_type":"code","source":"# no heading\nprint('x')","outputs":[
                {"output_type":"stream","text":["x\n"]},{"output_type":"display_data","data":{"image/png":"AAAA"}}]},
            {"cell_type":"markdown","source":"## Below"}]}"###;
        let mut document = open(source).expect("read");
        assert_eq!(document.title().as_deref(), Some("Test"));
        let page = document.page(1).expect("read");
        assert_eq!(
            page.text,
            "# Test\nwords\n\n```python\n# no heading\nprint('x')\n```\n\nOutput:\n\n```\nx\n```\n\n## Below"
        );
        let titles: Vec<_> = page.headings.iter().map(|it| it.title.as_str()).collect();
        assert_eq!(titles, ["Test", "Below"]);
    }

    #[test]
    fn what_is_no_notebook_is_refused() {
        assert!(matches!(open(b"{\"cells\": ["), Err(Refusal::Invalid(_))));
        assert!(matches!(open(b"[]"), Err(Refusal::NoText(_))));
    }
}
