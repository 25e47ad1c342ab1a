use std::io::Write;

use super::*;

/// A folder with these files; those whose name ends in .gz are packed.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = std::fs::File::create(&path).unwrap();
        if name.ends_with(".gz") {
            let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
            packed.write_all(text.as_bytes()).unwrap();
            packed.finish().unwrap();
        } else {
            file.write_all(text.as_bytes()).unwrap();
        }
    }
    dir
}

fn read(dir: &tempfile::TempDir) -> Result<QuestionSet, SetError> {
    QuestionSet::read(dir.path(), None, Unjudged::Skip)
}

const CORPUS: &str = r#"{"_id": "d1", "title": "Rock", "text": "Basalt is dark."}
{"_id": 2, "title": "", "text": "Marble is bright.\n\nIt is cut."}
{"_id": "d3", "title": "", "text": ""}
"#;
const QUERIES: &str = r#"{"_id": "q1", "text": "What is dark?", "answers": [{"text": "Basalt", "start": 0}]}
{"_id": "q2", "text": "What is cut?", "answers": {"text": ["cut"], "answer_start": [25]}}
{"_id": "q3", "text": "Who knows?"}
"#;
const QRELS: &str = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq2\t2\t1\nq2\td9\t1\nq9\td1\t1\n";

#[test]
fn a_folder_in_the_layout_of_beir_is_read() {
    let dir = folder(&[
        ("corpus.jsonl.gz", CORPUS),
        ("queries.jsonl", QUERIES),
        ("qrels/train.tsv", "q1\td1\t1\n"),
        ("qrels/test.tsv", QRELS),
    ]);
    let set = read(&dir).unwrap();
    let corpus = set.corpus.unwrap();
    assert_eq!(corpus.len(), 2);
    assert_eq!(
        corpus[0].content,
        CorpusContent::Text("Rock\n\nBasalt is dark.".into())
    );
    assert_eq!(corpus[1].name, "2");
    assert_eq!(set.questions.len(), 2);
    let [one, two] = &set.questions[..] else {
        panic!()
    };
    assert_eq!(one.relevant["d1"], 2);
    assert_eq!(one.is_answerable, Some(true));
    // The title stands before the text.
    assert_eq!(
        (one.gold[0].start, &one.gold[0].document[..]),
        (Some(6), "d1")
    );
    // Two documents bear on it, so nobody knows in which one the answer stands.
    assert_eq!(
        (two.gold.len(), &two.answers[..]),
        (0, &["cut".to_owned()][..])
    );
    let notes = set.notes.join("\n");
    for part in [
        "1 documents of the corpus are empty",
        "1 judged questions are not in the file of questions, the first one is \"q9\"",
        "1 judged documents are not in the corpus",
        "1 questions without judgments were left out",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    let train = QuestionSet::read(dir.path(), Some("train"), Unjudged::Decline).unwrap();
    assert_eq!(train.questions[0].relevant["d1"], 1);
    assert_eq!(train.questions[2].is_answerable, Some(false));
}

#[test]
fn what_does_not_fit_together_is_named() {
    let error = |files: &[(&str, &str)]| read(&folder(files)).unwrap_err().to_string();
    assert!(error(&[]).contains("no questions"));
    let both = [("corpus.jsonl", CORPUS), ("queries.jsonl", QUERIES)];
    assert!(
        error(&[both[0], both[1], ("qrels/dev.tsv", "x\td1\t1\n")])
            .contains("none of the 1 judged questions")
    );
    assert!(
        error(&[both[0], both[1], ("qrels.tsv", "q1\tx\t1\n")]).contains("none of the 1 documents")
    );
    assert!(
        error(&[both[0], both[1], ("qrels.tsv", "q1\td1\t1\nq1\td1\tyes\n")]).contains("line 2")
    );
    assert!(
        error(&[
            both[0],
            ("queries.jsonl", "{\"_id\": \"q3\", \"text\": \"Who?\"}\n")
        ])
        .contains("no judgments")
    );
    assert!(error(&[both[0], ("queries.jsonl", "not json\n")]).contains("line 1: not JSON"));
    assert!(error(&[both[0], ("queries.jsonl", "{\"_id\": \"1\"}\n")]).contains("no text"));
    let dir = folder(&[both[0], both[1], ("qrels/dev.tsv", "q1\td1\t1\n")]);
    let split = QuestionSet::read(dir.path(), Some("test"), Unjudged::Skip).unwrap_err();
    assert!(split.to_string().contains("there are: dev"), "{split}");
}

#[test]
fn questions_over_files_name_them_without_their_endings() {
    let question = r#"{"question": "What is dark?", "corpus_id": "rocks", "references": [{"content": "Basalt", "start_index": 4}]}"#;
    let dir = folder(&[
        ("questions.jsonl", question),
        ("corpora/rocks.md", "# A\n\nBasalt"),
    ]);
    let set = read(&dir).unwrap();
    let question = &set.questions[0];
    assert_eq!(question.relevant["rocks.md"], 1);
    assert_eq!(question.gold[0].document, "rocks.md");
    assert_eq!(question.id, "line 1");
}

#[test]
fn questions_about_ones_own_documents_need_no_corpus() {
    let questions = r#"{"text": "How much?", "answer": "42 euros", "file": "policy.txt"}
{"text": "What is the fax number?", "is_answerable": false}
{"text": "Anything?"}"#;
    let dir = folder(&[("mine.jsonl", questions)]);
    let set = QuestionSet::read(&dir.path().join("mine.jsonl"), None, Unjudged::Skip).unwrap();
    assert!(set.corpus.is_none());
    let answerable: Vec<Option<bool>> = set.questions.iter().map(|it| it.is_answerable).collect();
    assert_eq!(answerable, [Some(true), Some(false)]);
    assert_eq!(set.questions[0].relevant["policy.txt"], 1);
}

#[test]
fn questions_can_be_asked_without_their_documents_and_fewer() {
    let dir = folder(&[
        ("corpus.jsonl", CORPUS),
        ("queries.jsonl", QUERIES),
        ("qrels.tsv", QRELS),
    ]);
    let mut set = read(&dir).unwrap();
    set.also_without_documents(2);
    let last = set.questions.last().unwrap();
    assert_eq!((set.questions.len(), last.is_answerable), (3, Some(false)));
    assert_eq!(last.without, ["d1"]);
    set.keep(2);
    let ids: Vec<&str> = set.questions.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["q1", "q2"]);
}
