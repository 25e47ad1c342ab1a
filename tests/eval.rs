//! Evaluation with the real program: a folder of documents and judgments, and questions made from the owner's documents.

mod common;

use std::path::Path;
use std::process::Output;

use common::{model_path, models, program};
use inglenook::llm::testing::{Script, write_scripted_gguf};
use serde_json::Value;

const POLICY: &str = "Travel policy\n\nThe daily allowance is 42 euros. Trips abroad are approved by the department head. All \
     receipts must be handed in within 14 days of the trip. The office dog is called Bruno.\n";
const TOWER: &str = "The tower\n\nDie Höhe: 30 m. The lighthouse was built in 1897 by the navy. The lighthouse has 12 rooms in \
     all. Basalt is a dark rock that comes from lava.\n";

/// Exit code, standard output and standard error.
fn run(data_dir: &Path, args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program(data_dir).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Six documents of words that no other has, and a question of them for each.
fn collection(dir: &Path) {
    let words = ["basalt", "marble", "granite", "slate", "chalk", "quartz"];
    let (mut corpus, mut queries, mut qrels) = (
        String::new(),
        String::new(),
        String::from("query-id\tcorpus-id\tscore\n"),
    );
    for (at, word) in words.iter().enumerate() {
        let text = format!(
            "Much is known of {word} here. The price of {word} is {at}7 crowns. Nobody knows more."
        );
        corpus +=
            &format!("{{\"_id\": \"d{at}\", \"title\": \"On {word}\", \"text\": \"{text}\"}}\n");
        queries += &format!(
            "{{\"_id\": \"q{at}\", \"text\": \"What is the price of {word}?\", \"answers\": [{{\"text\": \"{at}7 crowns\", \"start\": {}}}]}}\n",
            text.find(&format!("{at}7 crowns")).unwrap()
        );
        qrels += &format!("q{at}\td{at}\t1\n");
    }
    std::fs::create_dir_all(dir.join("qrels")).unwrap();
    std::fs::write(dir.join("corpus.jsonl"), corpus).unwrap();
    std::fs::write(dir.join("queries.jsonl"), queries).unwrap();
    std::fs::write(dir.join("qrels/test.tsv"), qrels).unwrap();
}

#[test]
fn settings_are_compared_and_what_was_ingested_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("stones");
    collection(&set);
    let [keep, report, page] =
        ["keep", "report.json", "page.html"].map(|name| dir.path().join(name));
    let arguments = [
        "--embedding-model",
        models().embedder.to_str().unwrap(),
        "eval",
        set.to_str().unwrap(),
        "--compare=alpha=0,0.5",
        "--compare=chunk_tokens=16",
        "--without-documents=3",
        "--keep",
        keep.to_str().unwrap(),
        "--json",
        report.to_str().unwrap(),
        "--html",
        page.to_str().unwrap(),
    ];
    let (code, out, error) = run(dir.path(), &arguments);
    assert_eq!(code, 0, "{out}{error}");
    assert!(out.contains("stones: 8 questions"), "{out}");
    assert!(out.contains("asked again without their documents"), "{out}");
    let first = json(&report);
    let variants = first["variants"].as_array().unwrap();
    let names: Vec<&str> = variants
        .iter()
        .map(|it| it["settings"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["defaults", "alpha=0", "chunk_tokens=16"]);
    // Words alone tell these documents apart.
    let by_words = &variants[1]["metrics"];
    assert_eq!(by_words["ndcg@10"]["mean"], 1.0, "{by_words}");
    assert_eq!(by_words["recall@5"]["num_questions"], 6);
    assert_eq!(by_words["span_recall@5"]["mean"], 1.0);
    assert_eq!(by_words["quote_exact"]["mean"], 1.0);
    assert_eq!(by_words["refusal_accuracy"]["num_questions"], 8);
    assert_eq!(by_words["declined"]["num_questions"], 2);
    assert!(variants[0]["searched"]["ingestion_seconds"].as_f64() > Some(0.0));
    assert_eq!(variants[0]["searched"]["num_documents"], 6);
    let passages = |at: usize| variants[at]["searched"]["num_passages"].as_u64().unwrap();
    assert!(passages(2) > passages(0), "{} {}", passages(2), passages(0));
    assert!(variants[1]["differences"]["ndcg@10"]["p"].is_number());
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.contains("Inglenook eval: stones") && page.contains("<svg"));

    let (code, _, error) = run(dir.path(), &arguments);
    assert_eq!(code, 0, "{error}");
    let second = json(&report);
    assert_eq!(
        second["variants"][0]["searched"]["ingestion_seconds"],
        Value::Null
    );
    assert_eq!(
        second["variants"][1]["metrics"],
        first["variants"][1]["metrics"]
    );
    // Nothing came into the owner's own documents.
    assert!(!dir.path().join("inglenook.db").exists());
}

#[test]
fn a_quality_that_is_missed_fails() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("stones");
    collection(&set);
    let eval = |min: &str| {
        let model = models().embedder.to_str().unwrap();
        let set = set.to_str().unwrap();
        run(
            dir.path(),
            &[
                "--embedding-model",
                model,
                "eval",
                set,
                "--answer=none",
                "--limit=3",
                min,
            ],
        )
    };
    let (code, _, error) = eval("--min=answered=0.5");
    assert_eq!(code, 3, "{error}");
    assert!(error.contains("answered was not measured"), "{error}");
    let (code, out, error) = eval("--min=recall@10=0");
    assert_eq!(code, 0, "{out}{error}");
    let (code, _, error) = eval("--min=beauty=0.5");
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("there are: ndcg@10"), "{error}");
    std::fs::remove_dir_all(set.join("qrels")).unwrap();
    let (code, _, error) = eval("--min=recall@10=0");
    assert_eq!(code, 1);
    assert!(error.contains("no judgments"), "{error}");
}

fn ingest(dir: &Path, model: Option<&Path>) {
    for (name, text) in [("policy.txt", POLICY), ("tower.txt", TOWER)] {
        let file = dir.join(name);
        std::fs::write(&file, text).unwrap();
        let mut args = vec!["ingest", file.to_str().unwrap()];
        if let Some(model) = model {
            args.extend(["--embedding-model", model.to_str().unwrap()]);
        }
        let (code, _, error) = run(dir, &args);
        assert_eq!(code, 0, "{error}");
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn questions_are_made_from_ones_own_documents_and_asked() {
    let dir = tempfile::tempdir().unwrap();
    ingest(dir.path(), None);
    let file = dir.path().join("mine.jsonl");
    let make = |file: &Path| {
        let file = file.to_str().unwrap();
        run(
            dir.path(),
            &[
                "eval",
                "--make-questions",
                file,
                "--num-questions=4",
                "--unanswerable=0.5",
            ],
        )
    };
    let (code, out, error) = make(&file);
    assert_eq!(code, 0, "{error}");
    assert!(
        out.contains("2 questions with an answer and 2 without, made by rules"),
        "{out}"
    );
    let made = lines(&file);
    let files: Vec<&str> = made.iter().filter_map(|it| it["file"].as_str()).collect();
    // Spread over the documents.
    assert!(
        files.contains(&"policy.txt") && files.contains(&"tower.txt"),
        "{files:?}"
    );
    for question in &made {
        let text = question["text"].as_str().unwrap();
        assert!(text.ends_with('?'));
        if question["is_answerable"] == false {
            assert!(question["answers"].is_null());
            continue;
        }
        let document = if question["file"] == "policy.txt" {
            POLICY
        } else {
            TOWER
        };
        let answer = question["answers"][0]["text"].as_str().unwrap();
        let start = question["answers"][0]["start"].as_u64().unwrap() as usize;
        let found: String = document
            .chars()
            .skip(start)
            .take(answer.chars().count())
            .collect();
        assert_eq!(found, answer);
        assert!(!text.contains(answer), "{question}");
        assert_eq!(question["page"], 1);
    }
    // What a person mended is not lost.
    let (code, _, error) = make(&file);
    assert_eq!(code, 1);
    assert!(error.contains("is there already"), "{error}");
    let again = dir.path().join("again.jsonl");
    make(&again);
    assert_eq!(lines(&again), made);

    let report = dir.path().join("report.json");
    let before = std::fs::read(dir.path().join("inglenook.db")).unwrap();
    let arguments = [
        "eval",
        file.to_str().unwrap(),
        "--json",
        report.to_str().unwrap(),
        "--min=recall@5=1",
    ];
    let (code, out, error) = run(dir.path(), &arguments);
    assert_eq!(code, 0, "{out}{error}");
    let metrics = &json(&report)["variants"][0]["metrics"];
    assert_eq!(metrics["span_recall@5"]["mean"], 1.0, "{metrics}");
    assert_eq!(metrics["answer_contains_gold"]["num_questions"], 2);
    assert_eq!(metrics["declined"]["num_questions"], 2);
    assert_eq!(
        std::fs::read(dir.path().join("inglenook.db")).unwrap(),
        before
    );

    let (code, _, error) = run(
        dir.path(),
        &["eval", file.to_str().unwrap(), "--compare=chunk_tokens=64"],
    );
    assert_eq!(code, 1);
    assert!(error.contains("a folder with a corpus"), "{error}");
    let (code, _, error) = run(
        dir.path(),
        &["eval", file.to_str().unwrap(), "--answer=chat"],
    );
    assert_eq!(code, 1);
    assert!(error.contains("for demonstration"), "{error}");
}

#[test]
fn a_chat_model_writes_questions_and_is_asked_them() {
    let dir = tempfile::tempdir().unwrap();
    let embedder = models().embedder.as_path();
    ingest(dir.path(), Some(embedder));
    let chat = model_path("question-writer");
    let script = "Question: What is the dog of the office called?\nAnswer: Bruno";
    write_scripted_gguf(&chat, &Script::once(script)).unwrap();
    let file = dir.path().join("written.jsonl");
    let flags = [
        "--embedding-model",
        embedder.to_str().unwrap(),
        "--chat-model",
        chat.to_str().unwrap(),
    ];
    let make = [
        "eval",
        "--make-questions",
        file.to_str().unwrap(),
        "--num-questions=5",
        "--unanswerable=0",
    ];
    let (code, out, error) = run(dir.path(), &[&flags[..], &make].concat());
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("made by question-writer"), "{out}");
    assert!(error.contains("gave only 1 of 5"), "{error}");
    // One passage has the answer; the same question is not taken twice.
    let made = lines(&file);
    assert_eq!(made.len(), 1);
    assert_eq!(made[0]["answers"][0]["text"], "Bruno");
    assert_eq!(made[0]["kind"], "written");
    let report = dir.path().join("report.json");
    let ask = [
        "eval",
        file.to_str().unwrap(),
        "--answer=chat",
        "--json",
        report.to_str().unwrap(),
    ];
    let (code, _, error) = run(dir.path(), &[&flags[..], &ask].concat());
    assert_eq!(code, 0, "{error}");
    let report = json(&report);
    assert_eq!(
        report["variants"][0]["searched"]["answered_by"],
        "question-writer"
    );
    assert_eq!(
        report["variants"][0]["metrics"]["answer_contains_gold"]["mean"],
        1.0
    );
}
