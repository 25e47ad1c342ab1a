use super::super::ask::{Answered, Found};
use super::super::question_set::Question;
use super::super::variants::{AnswerMode, FusionMode};
use super::*;

fn variant(name: &str) -> Variant {
    Variant {
        name: name.into(),
        alpha: 0.5,
        fusion: FusionMode::Weighted,
        ranker: "auto".into(),
        diversity: 0.0,
        neighbors: None,
        top_k: 6,
        min_similarity: None,
        min_quote_confidence: None,
        answer: AnswerMode::Quote,
        chunk_tokens: 256,
        overlap_tokens: 32,
        embedding_model: None,
    }
}

/// Forty questions, of which `found` says where the right document stood.
fn run(name: &str, found: impl Fn(usize) -> usize) -> Run {
    let judged = |at: usize| Judged {
        question: Question {
            id: format!("q{at}"),
            text: format!("Question <script>alert({at})</script>?"),
            relevant: [("right".to_owned(), 1)].into(),
            answers: vec!["gold".into()],
            gold: Vec::new(),
            is_answerable: Some(true),
            without: Vec::new(),
        },
        pieces: Vec::new(),
    };
    let observation = |at: usize| {
        let mut ranking: Vec<String> = (0..9).map(|it| format!("other {it}")).collect();
        ranking.insert(found(at).min(9), "right".into());
        Observation {
            passages: vec![Found {
                document: ranking[0].clone(),
                span: 0..4,
                page: 1,
                score: 0.5,
                text: "\u{202e}</li><img src=x>".into(),
            }],
            ranking,
            search_ms: at as f64,
            answer: Some(Answered {
                text: "gold".into(),
                ..Answered::default()
            }),
            notes: Vec::new(),
        }
    };
    Run {
        settings: variant(name),
        searched: Searched {
            num_documents: 100,
            ..Searched::default()
        },
        judged: (0..40).map(judged).collect(),
        observations: (0..40).map(observation).collect(),
    }
}

fn report() -> Report {
    let about = About {
        set: "a & b".into(),
        num_questions: 40,
        seed: 1,
        ..About::default()
    };
    let runs = vec![
        run("defaults", |at| at % 3),
        run("better", |_| 0),
        // The same but for one question.
        run("noise", |at| if at == 0 { 1 } else { at % 3 }),
    ];
    Report::new(about, runs)
}

#[test]
fn what_chance_could_do_is_not_marked() {
    let report = report();
    assert_eq!(report.main_metric, Some(Metric::Ndcg10));
    let significant = |at: usize| {
        let mut found = report.variants[at].differences.iter();
        found.find(|it| it.0 == Metric::Ndcg10).unwrap().1
    };
    assert!(report.variants[0].differences.is_empty());
    assert!(significant(1).is_significant());
    assert!(significant(1).p_adjusted >= significant(1).p);
    assert!(!significant(2).is_significant());
    assert_eq!(
        (significant(2).num_worse, significant(2).num_better),
        (1, 0)
    );
    let table = table(&report);
    let line = table
        .lines()
        .find(|line| line.starts_with("ndcg@10"))
        .unwrap();
    assert_eq!(line.matches('*').count(), 1, "{table}");
    assert!(table.contains("defaults") && table.contains("search p50 / p95 ms"));
}

#[test]
fn the_page_is_whole_and_inert() {
    let page = page(&report());
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}'));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src=\""));
    assert!(page.contains("a &amp; b") && page.contains("&lt;script&gt;"));
    assert!(page.contains("prefers-color-scheme: dark"));
    let num = |part: &str| page.matches(part).count();
    assert_eq!(num("<svg"), num("role=\"img\""));
    assert_eq!(num("<svg"), num("<desc"));
    assert_eq!(num("<details>"), 20);
    for tag in [
        "svg", "table", "figure", "details", "tr", "td", "th", "main",
    ] {
        assert_eq!(
            num(&format!("<{tag}>")) + num(&format!("<{tag} ")),
            num(&format!("</{tag}>")),
            "{tag}"
        );
    }
    // No two pictures share a name.
    let mut ids: Vec<&str> = page
        .split(" id=\"")
        .skip(1)
        .map(|it| it.split('"').next().unwrap())
        .collect();
    let num_ids = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), num_ids);
}

#[test]
fn thresholds_hold_the_first_variant() {
    let report = report();
    let missed = |typed: &str| typed.parse::<Threshold>().unwrap().missed(&report);
    assert_eq!(missed("answer_contains_gold=1"), None);
    assert!(
        missed("ndcg@10=0.99")
            .unwrap()
            .contains("must be at least 0.99")
    );
    assert!(missed("declined=0.1").unwrap().contains("not measured"));
    assert!("ndcg@10".parse::<Threshold>().is_err());
    assert!("ndcg@10=2".parse::<Threshold>().is_err());
    let json = serde_json::to_value(&report).unwrap();
    assert!(
        json["variants"][1]["differences"]["ndcg@10"]["p"]
            .as_f64()
            .unwrap()
            < 0.05
    );
    assert_eq!(json["questions"][0]["results"][0]["values"]["mrr@10"], 1.0);
    assert_eq!(json["main_metric"], "ndcg@10");
}
