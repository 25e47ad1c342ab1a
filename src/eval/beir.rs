//! Reads the files of question sets: JSON lines, packed or not, and judgments in tables.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::metrics::Gains;
use super::question_set::{
    CorpusContent, CorpusDocument, GoldText, Judgments, Question, QuestionSet, SetError, judge,
};

const QUESTION_FILES: &[&str] = &["queries.jsonl", "questions.jsonl"];

pub fn read(path: &Path, split: Option<&str>) -> Result<QuestionSet, SetError> {
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let name = full.file_name().unwrap_or(full.as_os_str());
    let mut set = QuestionSet {
        name: name.to_string_lossy().into_owned(),
        questions: Vec::new(),
        corpus: None,
        notes: Vec::new(),
    };
    if path.is_file() {
        set.questions = questions(path)?;
        return finished(set, path);
    }
    std::fs::read_dir(path).map_err(|source| unreadable(path, source))?;
    let file = QUESTION_FILES
        .iter()
        .find_map(|name| plain_or_packed(path, name))
        .ok_or_else(|| SetError::NoQuestions { path: path.into() })?;
    set.questions = questions(&file)?;
    set.corpus = corpus(path, &mut set.notes)?;
    match judgments(path, split)? {
        Some(judgments) => judge(&mut set.questions, judgments, &mut set.notes)?,
        None => {
            let names_documents = |question: &Question| {
                !question.relevant.is_empty() || question.is_answerable.is_some()
            };
            if set.corpus.is_some() && !set.questions.iter().any(names_documents) {
                return Err(SetError::NoJudgments { path: path.into() });
            }
        }
    }
    finished(set, path)
}

/// Names documents as the corpus does, and places answers in documents.
fn finished(mut set: QuestionSet, path: &Path) -> Result<QuestionSet, SetError> {
    if set.questions.is_empty() {
        return Err(SetError::NoQuestions { path: path.into() });
    }
    let corpus = set.corpus.as_deref().unwrap_or_default();
    let full_name = |name: &str| -> Option<String> {
        if corpus.iter().any(|document| document.name == name) {
            return None;
        }
        // "report" for "report.md".
        let stem = |document: &&CorpusDocument| {
            Path::new(&document.name).file_stem() == Some(name.as_ref())
        };
        corpus.iter().find(stem).map(|it| it.name.clone())
    };
    let has_files = corpus
        .iter()
        .any(|document| matches!(document.content, CorpusContent::File(_)));
    for question in &mut set.questions {
        if has_files {
            let gains = std::mem::take(&mut question.relevant);
            let renamed = gains
                .into_iter()
                .map(|(name, gain)| (full_name(&name).unwrap_or(name), gain));
            question.relevant = renamed.collect();
        }
        // An answer with a place stands in the one document there is.
        let mut documents = question.relevant.keys();
        let only = match (documents.next(), documents.next()) {
            (Some(only), None) => Some(only.clone()),
            _ => None,
        };
        for gold in &mut question.gold {
            if let (true, Some(only)) = (gold.document.is_empty(), &only) {
                gold.document = only.clone();
            }
        }
        question.gold.retain(|gold| !gold.document.is_empty());
    }
    shift_by_titles(&mut set);
    Ok(set)
}

/// Places count from where a document's text begins, but its title stands before it.
fn shift_by_titles(set: &mut QuestionSet) {
    let corpus = set.corpus.iter().flatten();
    let starts: HashMap<&str, usize> = corpus
        .map(|document| (document.name.as_str(), document.text_start))
        .collect();
    for gold in set.questions.iter_mut().flat_map(|it| &mut it.gold) {
        let shift = starts.get(gold.document.as_str()).copied().unwrap_or(0);
        gold.start = gold.start.map(|start| start + shift);
    }
}

/// What stands between a document's title and its text.
const TITLE_END: &str = "\n\n";

fn corpus(dir: &Path, notes: &mut Vec<String>) -> Result<Option<Vec<CorpusDocument>>, SetError> {
    if let Some(file) = plain_or_packed(dir, "corpus.jsonl") {
        return packed_corpus(&file, notes).map(Some);
    }
    let files = dir.join("corpora");
    if !files.is_dir() {
        return Ok(None);
    }
    let mut documents = Vec::new();
    for entry in std::fs::read_dir(&files).map_err(|source| unreadable(&files, source))? {
        let path = entry.map_err(|source| unreadable(&files, source))?.path();
        if !path.is_file() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        documents.push(CorpusDocument {
            name: name.clone().into_owned(),
            filename: name.into_owned(),
            content: CorpusContent::File(path),
            text_start: 0,
        });
    }
    documents.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Some(documents))
}

fn packed_corpus(file: &Path, notes: &mut Vec<String>) -> Result<Vec<CorpusDocument>, SetError> {
    let mut documents = Vec::new();
    let mut num_empty = 0;
    for (line, value) in lines(file)? {
        let name = id(&value).ok_or_else(|| bad_line(file, line, "no _id"))?;
        let field = |key: &str| value[key].as_str().unwrap_or_default().trim();
        let (title, text) = (field("title"), field("text"));
        let (content, text_start) = match (title, text) {
            // A document of nothing cannot be ingested.
            ("", "") => {
                num_empty += 1;
                continue;
            }
            ("", only) | (only, "") => (only.to_owned(), 0),
            _ => {
                let start = title.chars().count() + TITLE_END.len();
                (format!("{title}{TITLE_END}{text}"), start)
            }
        };
        documents.push(CorpusDocument {
            filename: format!("{}.txt", name.replace(['/', '\\'], "_")),
            name,
            content: CorpusContent::Text(content),
            text_start,
        });
    }
    if num_empty > 0 {
        notes.push(format!("{num_empty} documents of the corpus are empty"));
    }
    Ok(documents)
}

fn questions(file: &Path) -> Result<Vec<Question>, SetError> {
    let mut questions = Vec::new();
    for (line, value) in lines(file)? {
        let text = ["text", "question", "query"]
            .iter()
            .find_map(|key| value[*key].as_str())
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| {
                bad_line(
                    file,
                    line,
                    "no text: a question has \"text\" or \"question\"",
                )
            })?;
        let mut question = Question {
            id: id(&value).unwrap_or_else(|| format!("line {line}")),
            text: text.to_owned(),
            relevant: relevant(&value),
            answers: Vec::new(),
            gold: Vec::new(),
            is_answerable: value["is_answerable"]
                .as_bool()
                .or_else(|| value["is_impossible"].as_bool().map(|it| !it)),
            without: Vec::new(),
        };
        for (answer, start) in answers(&value) {
            if start.is_some() {
                question.gold.push(GoldText {
                    document: String::new(),
                    text: answer.clone(),
                    start,
                });
            }
            question.answers.push(answer);
        }
        for reference in value["references"].as_array().into_iter().flatten() {
            let Some(content) = reference["content"].as_str() else {
                return Err(bad_line(file, line, "a reference without content"));
            };
            question.gold.push(GoldText {
                document: String::new(),
                text: content.to_owned(),
                start: number(&reference["start_index"]),
            });
        }
        questions.push(question);
    }
    Ok(questions)
}

/// The documents that a question names itself.
fn relevant(value: &Value) -> Gains {
    let mut names = Vec::new();
    for key in ["file", "corpus_id", "files"] {
        match &value[key] {
            Value::String(name) => names.push(name.clone()),
            Value::Array(all) => {
                names.extend(all.iter().filter_map(|it| Some(it.as_str()?.to_owned())))
            }
            _ => {}
        }
    }
    names.into_iter().map(|name| (name, 1)).collect()
}

/// Answers with the place where they begin: a text, a list of texts, or as SQuAD and XQuAD write them.
fn answers(value: &Value) -> Vec<(String, Option<usize>)> {
    let mut found = Vec::new();
    for answer in [&value["answer"], &value["answers"]] {
        match answer {
            Value::String(text) => found.push((text.clone(), None)),
            Value::Array(all) => found.extend(all.iter().filter_map(one_answer)),
            Value::Object(columns) => {
                let texts = columns.get("text").and_then(Value::as_array);
                let starts = &answer["answer_start"];
                for (at, text) in texts.into_iter().flatten().enumerate() {
                    if let Some(text) = text.as_str() {
                        found.push((text.to_owned(), number(&starts[at])));
                    }
                }
            }
            _ => {}
        }
    }
    found.retain(|(text, _)| !text.trim().is_empty());
    found
}

fn one_answer(answer: &Value) -> Option<(String, Option<usize>)> {
    if let Some(text) = answer.as_str() {
        return Some((text.to_owned(), None));
    }
    let start = number(&answer["start"]).or_else(|| number(&answer["answer_start"]));
    Some((answer["text"].as_str()?.to_owned(), start))
}

fn number(value: &Value) -> Option<usize> {
    value.as_u64().map(|it| it as usize)
}

/// The judgments of `split`, by default those of the test.
fn judgments(dir: &Path, split: Option<&str>) -> Result<Option<Judgments>, SetError> {
    let folder = dir.join("qrels");
    let mut found: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        found.extend(name.strip_suffix(".tsv").map(str::to_owned));
    }
    found.sort();
    let wanted = split.unwrap_or("test");
    let file = if found.iter().any(|name| name == wanted) {
        folder.join(format!("{wanted}.tsv"))
    } else if split.is_none() && dir.join("qrels.tsv").is_file() {
        dir.join("qrels.tsv")
    } else if let (None, [only]) = (split, &found[..]) {
        folder.join(format!("{only}.tsv"))
    } else if split.is_none() && found.is_empty() {
        return Ok(None);
    } else {
        return Err(SetError::NoSplit {
            path: dir.into(),
            split: wanted.to_owned(),
            found,
        });
    };
    read_judgments(&file).map(Some)
}

/// Query, document and score, with or without names of columns, or the four columns of TREC.
fn read_judgments(file: &Path) -> Result<Judgments, SetError> {
    let opened = File::open(file).map_err(|source| unreadable(file, source))?;
    let mut judgments = Judgments::new();
    for (at, line) in BufReader::new(opened).lines().enumerate() {
        let line = line.map_err(|source| unreadable(file, source))?;
        if line.trim().is_empty() {
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (query, document, score) = match fields[..] {
            [query, document, score] => (query, document, score),
            [query, _, document, score] => (query, document, score),
            _ => {
                let reason = "not a judgment: query-id, corpus-id and score, separated by tabs";
                return Err(bad_line(file, at + 1, reason));
            }
        };
        let Ok(gain) = score.parse::<i64>() else {
            if at == 0 {
                continue;
            }
            return Err(bad_line(file, at + 1, "the score is no whole number"));
        };
        // Below 0 is what some collections call harmful; it bears on nothing.
        let gain = u32::try_from(gain.max(0)).unwrap_or(u32::MAX);
        let gains = judgments.entry(query.to_owned()).or_default();
        gains.insert(document.to_owned(), gain);
    }
    Ok(judgments)
}

fn plain_or_packed(dir: &Path, name: &str) -> Option<PathBuf> {
    let paths = [dir.join(name), dir.join(format!("{name}.gz"))];
    paths.into_iter().find(|path| path.is_file())
}

/// The values of a file of JSON lines, with the numbers of their lines.
fn lines(file: &Path) -> Result<Vec<(usize, Value)>, SetError> {
    let opened = File::open(file).map_err(|source| unreadable(file, source))?;
    let reader: Box<dyn Read> = match file.extension().is_some_and(|it| it == "gz") {
        true => Box::new(flate2::read::MultiGzDecoder::new(opened)),
        false => Box::new(opened),
    };
    let mut values = Vec::new();
    for (at, line) in BufReader::new(reader).lines().enumerate() {
        let line = line.map_err(|source| unreadable(file, source))?;
        if line.trim().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(&line)
            .map_err(|error| bad_line(file, at + 1, &format!("not JSON: {error}")))?;
        values.push((at + 1, value));
    }
    Ok(values)
}

fn id(value: &Value) -> Option<String> {
    match value.get("_id").or_else(|| value.get("id"))? {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

fn unreadable(path: &Path, source: std::io::Error) -> SetError {
    SetError::Read {
        path: path.into(),
        source,
    }
}

fn bad_line(path: &Path, line: usize, reason: &str) -> SetError {
    SetError::BadLine {
        path: path.into(),
        line,
        reason: reason.into(),
    }
}
