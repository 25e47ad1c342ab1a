//! Times what a newcomer meets first: from the server's "Open" line to a whole answer about a PDF of two pages that is
//! dropped on it, and the memory that takes. Starts the program with an empty data folder, so nothing is warm.
//!
//!     cargo run --release --example first_answer -- target/release/inglenook

#[path = "support/server.rs"]
mod server;
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use server::Server;
use support::{Result, get, post, upload};

const PAGES: [&[&str]; 2] = [
    &[
        "Grauholm lighthouse",
        "The lighthouse on Grauholm was built in 1874 from granite that came by barge.",
        "Its tower is 41 metres high and has 212 steps.",
        "The lamp was lit with rapeseed oil until 1903, and with electricity from then on.",
        "The keeper winds the clockwork every evening at a quarter past six.",
    ],
    &[
        "Visitors",
        "Visitors are welcome on the first Sunday of every month between May and September.",
        "The ferry leaves from the old fish hall at nine o'clock and costs 14 crowns.",
        "Dogs may come along when they are kept on a leash.",
        "Groups of more than ten people are asked to write to the keeper beforehand.",
    ],
];
const QUESTION: &str = "How much does the ferry cost?";
const EXPECTED: &str = "14 crowns";

fn main() -> Result<()> {
    let program = std::env::args()
        .nth(1)
        .ok_or("usage: first_answer PROGRAM")?;
    let program = std::path::absolute(program)?;
    let dir = tempfile::tempdir()?;
    let started = Instant::now();
    let mut command = Command::new(program);
    command
        .env("HOME", dir.path())
        .current_dir(dir.path())
        .arg("--data-dir")
        .arg(dir.path().join("data"));
    let (server, base) = Server::start(&mut command, |line| println!("{line}"))?;
    println!("start: {:.2} s", started.elapsed().as_secs_f64());

    let opened = Instant::now();
    let status = get(&format!("{base}/api/status"))?;
    let store = status["default_vector_store_id"]
        .as_str()
        .ok_or("no default store")?;
    let file = upload(&base, "lighthouse.pdf", &pdf())?;
    let path = format!("{base}/v1/vector_stores/{store}/files");
    post(&path, &json!({ "file_id": file }))?;
    loop {
        let document = get(&format!("{path}/{file}"))?;
        match document["status"].as_str() {
            Some("completed") => break,
            Some("in_progress") => std::thread::sleep(Duration::from_millis(10)),
            _ => return Err(document.to_string().into()),
        }
    }
    let ingested = opened.elapsed();
    let question = json!({
        "input": QUESTION,
        "tools": [{ "type": "file_search", "vector_store_ids": [store] }],
    });
    let response = post(&format!("{base}/v1/responses"), &question)?;
    let answered = opened.elapsed();
    let output = response["output"].as_array().ok_or("no output")?;
    let answer = &output.last().ok_or("no message")?["content"][0];
    println!("answer: {}", answer["text"]);
    let is_right = answer["text"]
        .as_str()
        .is_some_and(|text| text.contains(EXPECTED))
        && answer["annotations"][0]["page_first"] == 2;
    println!("searchable after {:.2} s", ingested.as_secs_f64());
    println!("answered after {:.2} s", answered.as_secs_f64());
    println!("resident: {}", resident(server.0.id())?);
    if !is_right {
        return Err("the answer is wrong".into());
    }
    Ok(())
}

/// A PDF of [`PAGES`], a line of text a sentence.
fn pdf() -> Vec<u8> {
    let kids: Vec<String> = (0..PAGES.len())
        .map(|at| format!("{} 0 R", 4 + 2 * at))
        .collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_string(),
        format!(
            "<< /Type /Pages /Kids [{}] /Count {} >>",
            kids.join(" "),
            kids.len()
        ),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".into(),
    ];
    for (at, lines) in PAGES.iter().enumerate() {
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> \
             /Contents {} 0 R >>",
            5 + 2 * at
        ));
        let shown: String = lines
            .iter()
            .map(|line| format!("({line}) Tj T*\n"))
            .collect();
        let content = format!("BT /F1 12 Tf 18 TL 60 780 Td\n{shown}ET");
        objects.push(format!(
            "<< /Length {} >>\nstream\n{content}\nendstream",
            content.len()
        ));
    }
    let mut out = b"%PDF-1.4\n".to_vec();
    let mut offsets = Vec::new();
    for (at, object) in objects.iter().enumerate() {
        offsets.push(out.len());
        out.extend(format!("{} 0 obj\n{object}\nendobj\n", at + 1).into_bytes());
    }
    let start = out.len();
    out.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).into_bytes());
    for offset in offsets {
        out.extend(format!("{offset:010} 00000 n \n").into_bytes());
    }
    let size = objects.len() + 1;
    out.extend(
        format!("trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n")
            .into_bytes(),
    );
    out
}

/// What the kernel says of a process's memory, where it is Linux's.
fn resident(pid: u32) -> Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let lines = status
        .lines()
        .filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
    Ok(lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", "))
}
