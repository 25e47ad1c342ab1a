use serde_json::Value;

use super::*;

/// What scipy makes of the same data; see `tests/goldens/make_eval_goldens.py`.
fn goldens(part: &str) -> Vec<Value> {
    let all = include_str!("../../../tests/goldens/eval_goldens.json");
    let all: Value = serde_json::from_str(all).unwrap();
    all[part].as_array().unwrap().clone()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn intervals_are_those_of_scipy_within_what_resampling_scatters() {
    for case in goldens("intervals") {
        let values = numbers(&case["values"]);
        let ours = Estimate::of(&values, 1).unwrap();
        let theirs = |name: &str| case[name].as_f64().unwrap();
        assert!((ours.mean - theirs("mean")).abs() < 1e-5);
        let width = theirs("high") - theirs("low");
        for (ours, name) in [(ours.low, "low"), (ours.high, "high")] {
            assert!(
                (ours - theirs(name)).abs() < 0.08 * width,
                "{name}: {ours} {}",
                theirs(name)
            );
        }
        assert_eq!(Estimate::of(&values, 1), Some(ours));
    }
    assert_eq!(Estimate::of(&[], 1), None);
}

#[test]
fn the_randomization_test_is_that_of_scipy() {
    for case in goldens("tests") {
        let ours = randomization_test(&numbers(&case["differences"]), 3);
        let theirs = case["p"].as_f64().unwrap();
        let scatter = match case["is_exact"].as_bool().unwrap() {
            true => 1e-9,
            // Four standard errors of 10,000 resamples.
            false => 4.0 * (theirs * (1.0 - theirs) / 1e4).sqrt() + 1e-3,
        };
        assert!((ours - theirs).abs() <= scatter, "{ours} {theirs}");
    }
}

#[test]
fn no_difference_is_no_evidence() {
    assert_eq!(randomization_test(&[0.0; 30], 1), 1.0);
    assert_eq!(randomization_test(&[0.5], 1), 1.0);
    // All 2^10 signs, of which two are as far.
    assert!((randomization_test(&[0.1; 10], 1) - 2.0 / 1024.0).abs() < 1e-12);
    let none = Difference::of(&[0.0, 0.0], 1).unwrap();
    assert!(!none.is_significant());
    assert_eq!((none.num_better, none.num_worse), (0, 0));
}

#[test]
fn with_many_comparisons_more_is_asked_of_each() {
    let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
    let expected = [0.03, 0.06, 0.06, 0.02];
    for (ours, theirs) in adjusted.iter().zip(expected) {
        assert!((ours - theirs).abs() < 1e-12, "{adjusted:?}");
    }
    assert!(holm(&[]).is_empty());
}

#[test]
fn quantiles_lie_between_values() {
    // numpy.quantile([1, 2, 4, 8], [0, 0.5, 0.95, 1])
    let sorted = [1.0, 2.0, 4.0, 8.0];
    let found = [0.0, 0.5, 0.95, 1.0].map(|q| quantile(&sorted, q));
    for (ours, theirs) in found.iter().zip([1.0, 3.0, 7.4, 8.0]) {
        assert!((ours - theirs).abs() < 1e-9, "{found:?}");
    }
    let latency = Latency::of(vec![4.0, 1.0, 8.0, 2.0]).unwrap();
    assert_eq!((latency.p50_ms, latency.num_questions), (3.0, 4));
    assert_eq!(Latency::of(Vec::new()), None);
}
