//! Measures how a model answers from three sources: the passage with the answer and the two others that share most words
//! with the question, then again with the passage replaced by a third. Asks a running server, by its own API.
//!
//!     cargo run --release --example three_sources -- BASE_URL COLLECTION_DIR MODEL [NUM_QUESTIONS]
//!
//! The folder has corpus.jsonl.gz, queries.jsonl.gz with the spans that answer, and qrels.tsv.

mod support;

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Result, get, post, upload};

#[derive(Default)]
struct Counts {
    asked: usize,
    has_span: usize,
    is_right_source: usize,
    answered: usize,
    verbatim: usize,
    declined_with: usize,
    declined_without: usize,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let [_, base, dir, model, rest @ ..] = args.as_slice() else {
        return Err("usage: three_sources BASE_URL COLLECTION_DIR MODEL [NUM_QUESTIONS]".into());
    };
    let limit: usize = match rest.first() {
        Some(limit) => limit.parse()?,
        None => usize::MAX,
    };
    let dir = Path::new(dir);
    let store = post(
        &format!("{base}/v1/vector_stores"),
        &json!({ "name": "three sources" }),
    )?;
    let store = text(&store["id"]);
    let mut files = HashMap::new();
    let mut texts = HashMap::new();
    for document in lines(&dir.join("corpus.jsonl.gz"))? {
        let content = text(&document["text"]);
        let file = upload(base, "passage.txt", content.as_bytes())?;
        let path = format!("{base}/v1/vector_stores/{store}/files");
        post(&path, &json!({ "file_id": file }))?;
        texts.insert(file.clone(), content);
        files.insert(text(&document["_id"]), file);
    }
    loop {
        let counts = get(&format!("{base}/v1/vector_stores/{store}"))?["file_counts"].clone();
        if counts["in_progress"] == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }

    let mut gold = HashMap::new();
    for line in std::fs::read_to_string(dir.join("qrels.tsv"))?
        .lines()
        .skip(1)
    {
        let fields: Vec<&str> = line.split('\t').collect();
        gold.insert(fields[0].to_string(), files[fields[1]].clone());
    }
    let mut counts = Counts::default();
    for query in lines(&dir.join("queries.jsonl.gz"))?.iter().take(limit) {
        let question = text(&query["text"]);
        let right = &gold[&text(&query["_id"])];
        let others = nearest(base, &store, &question, right)?;
        let with = [right.clone(), others[0].clone(), others[1].clone()];
        let (answer, cited) = ask(base, &store, model, &question, &with)?;
        counts.asked += 1;
        if is_declined(&answer) {
            counts.declined_with += 1;
        } else {
            counts.answered += 1;
            let said = plain(&answer);
            counts.verbatim += usize::from(with.iter().any(|file| texts[file].contains(&said)));
            counts.is_right_source += usize::from(cited.as_ref() == Some(right));
            let spans = query["answers"]
                .as_array()
                .ok_or("a question without answers")?;
            counts.has_span +=
                usize::from(spans.iter().any(|it| said.contains(&text(&it["text"]))));
        }
        let (answer, _) = ask(base, &store, model, &question, &others)?;
        counts.declined_without += usize::from(is_declined(&answer));
    }
    println!("{model}: {} questions", counts.asked);
    for (what, count, of) in [
        ("gold span in the answer", counts.has_span, counts.asked),
        ("right source cited", counts.is_right_source, counts.asked),
        (
            "answers that are verbatim",
            counts.verbatim,
            counts.answered,
        ),
        (
            "declined with the passage",
            counts.declined_with,
            counts.asked,
        ),
        ("declined without it", counts.declined_without, counts.asked),
    ] {
        println!("{what}: {:.1}%", 100.0 * count as f64 / of.max(1) as f64);
    }
    Ok(())
}

/// The three files other than `right` that share most words with the question.
fn nearest(base: &str, store: &str, question: &str, right: &str) -> Result<Vec<String>> {
    let by_words = json!({ "hybrid_search": { "embedding_weight": 0.0, "text_weight": 1.0 } });
    let body = json!({ "query": question, "max_num_results": 20, "ranking_options": by_words });
    let found = post(&format!("{base}/v1/vector_stores/{store}/search"), &body)?;
    let mut files: Vec<String> = Vec::new();
    for hit in found["data"].as_array().ok_or("no results")? {
        let file = text(&hit["file_id"]);
        if file != right && !files.contains(&file) {
            files.push(file);
        }
    }
    if files.len() < 3 {
        return Err(format!("fewer than three other files for {question:?}").into());
    }
    files.truncate(3);
    Ok(files)
}

/// The answer from these files alone, and the file that it cites last.
fn ask(
    base: &str,
    store: &str,
    model: &str,
    question: &str,
    files: &[String],
) -> Result<(String, Option<String>)> {
    let tool = json!({
        "type": "file_search",
        "vector_store_ids": [store],
        "file_ids": files,
        "max_num_results": 3,
    });
    let body = json!({ "model": model, "input": question, "tools": [tool], "temperature": 0, "store": false });
    let response = post(&format!("{base}/v1/responses"), &body)?;
    let output = response["output"].as_array().ok_or("no output")?;
    let part = output.last().ok_or("no message")?["content"][0].clone();
    let annotations = part["annotations"].as_array().ok_or("no annotations")?;
    let cited = annotations
        .last()
        .map(|citation| text(&citation["file_id"]));
    Ok((text(&part["text"]), cited))
}

fn is_declined(answer: &str) -> bool {
    answer.to_lowercase().contains("could not find")
}

/// The answer without its markers and the quotation marks around it.
fn plain(answer: &str) -> String {
    let mut said = answer.trim();
    while let Some((head, marker)) = said.rsplit_once('[') {
        if !marker
            .trim_end_matches([']', '.', ' '])
            .bytes()
            .all(|b| b.is_ascii_digit())
        {
            break;
        }
        said = head.trim_end();
    }
    said.trim_matches(['“', '”']).to_string()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    let mut all = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path)?).read_to_string(&mut all)?;
    let parsed: std::result::Result<_, _> = all.lines().map(serde_json::from_str).collect();
    Ok(parsed?)
}
