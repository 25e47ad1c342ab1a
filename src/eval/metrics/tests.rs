use serde_json::Value;

use super::*;

/// What other programs make of the same data; see `tests/goldens/make_eval_goldens.py`.
fn goldens(part: &str) -> Vec<Value> {
    let all = include_str!("../../../tests/goldens/eval_goldens.json");
    let all: Value = serde_json::from_str(all).unwrap();
    all[part].as_array().unwrap().clone()
}

#[test]
fn rankings_are_worth_what_trec_eval_says() {
    for case in goldens("rankings") {
        let ranking: Vec<String> = serde_json::from_value(case["ranking"].clone()).unwrap();
        let gains: Gains = serde_json::from_value(case["gains"].clone()).unwrap();
        for (name, ours) in [
            ("ndcg_10", ndcg(&ranking, &gains, 10)),
            ("recall_5", recall(&ranking, &gains, 5)),
            ("recall_10", recall(&ranking, &gains, 10)),
            ("reciprocal_rank_10", reciprocal_rank(&ranking, &gains, 10)),
        ] {
            let theirs = case[name].as_f64().unwrap();
            assert!(
                (ours - theirs).abs() < 1e-6,
                "{name}: {ours} {theirs} {case}"
            );
        }
    }
}

#[test]
fn coverage_is_what_counting_positions_gives() {
    let pieces = |value: &Value| -> Vec<Piece> {
        let made = value.as_array().unwrap().iter().map(|it| Piece {
            document: it[0].as_str().unwrap().into(),
            span: it[1].as_u64().unwrap() as usize..it[2].as_u64().unwrap() as usize,
        });
        made.collect()
    };
    for case in goldens("coverages") {
        let ours = coverage(&pieces(&case["passages"]), &pieces(&case["gold"]));
        assert!(
            (ours.recall - case["recall"].as_f64().unwrap()).abs() < 1e-9,
            "{case}"
        );
        assert!(
            (ours.precision - case["precision"].as_f64().unwrap()).abs() < 1e-9,
            "{case}"
        );
    }
}

#[test]
fn precision_counts_passages() {
    let gains: Gains = [("a".to_owned(), 1), ("b".to_owned(), 0)].into();
    let found = ["a", "b", "a", "c"].map(str::to_owned);
    assert_eq!(precision(&found, &gains), 0.5);
    assert_eq!(precision(&[], &gains), 0.0);
}

#[test]
fn a_gold_answer_is_found_as_whole_words() {
    let says = |text: &str, gold: &str| contains_gold(text, &[gold.to_owned()]);
    assert!(says("It was in  1897.", "1897"));
    assert!(says("The Denver Broncos won.", "denver broncos"));
    assert!(says("\u{201c}7,000 people\u{201d} [1]", "7000"));
    assert!(says("the sum of the parts", "sum of parts"));
    assert!(!says("It was in 18970.", "1897"));
    assert!(!says("anything", "the"));
    assert!(says("公司成立于一九九八年。", "一九九八年"));
    assert!(contains_gold("blue", &["red".into(), "blue".into()]));
}
