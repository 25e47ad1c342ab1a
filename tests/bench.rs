//! The benchmark command with a tiny model: every scenario gives numbers that can be true.

mod common;

use common::{models, program};
use serde_json::Value;

fn bench(args: &[&str]) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let output = program(dir.path())
        .arg("bench")
        .args(args)
        .output()
        .unwrap();
    let (out, err) = (output.stdout, output.stderr);
    let text = String::from_utf8(out).unwrap() + &String::from_utf8(err).unwrap();
    (output.status.success(), text)
}

#[test]
fn every_scenario_is_measured() {
    let (succeeded, report) = bench(&[
        models().scripted.to_str().unwrap(),
        "--json",
        "--prompts=8,40",
        "--concurrency=1,3",
        "--tokens=16",
        "--rate=200",
        "--requests=5",
        "--long-prompt=200",
    ]);
    assert!(succeeded, "{report}");
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["model"], "scripted");
    let throughputs = report["throughput"].as_array().unwrap();
    let shapes: Vec<(u64, u64)> = throughputs
        .iter()
        .map(|it| {
            let number = |key: &str| it[key].as_u64().unwrap();
            (number("num_prompt_tokens"), number("concurrency"))
        })
        .collect();
    assert_eq!(shapes, [(8, 1), (8, 3), (40, 1), (40, 3)]);
    let is_ordered = |spread: &Value| {
        let percent = ["p50_ms", "p95_ms", "p99_ms", "max_ms"].map(|it| spread[it].as_f64());
        percent[0] > Some(0.0) && percent.is_sorted()
    };
    for measured in throughputs {
        assert!(measured["prefill_per_second"].as_f64() > Some(0.0));
        assert!(measured["decode_per_second"].as_f64() > Some(0.0));
        assert!(is_ordered(&measured["time_to_first"]), "{measured}");
    }
    assert!(is_ordered(&report["load"]["time_to_first"]));
    assert!(is_ordered(&report["load"]["inter_token"]));
    let long = &report["long_prompt"];
    assert_eq!(
        (&long["num_prompt_tokens"], &long["num_streams"]),
        (&200.into(), &3.into())
    );
    assert!(long["read_seconds"].as_f64() > Some(0.0));
    assert!(is_ordered(&long["inter_token_before"]), "{long}");
    assert!(is_ordered(&long["inter_token_after"]), "{long}");
}

#[test]
fn what_cannot_be_measured_is_said() {
    for (args, part) in [
        (&["nobody"][..], "no chat model"),
        (&["none"], "none is no model"),
        (
            &[models().scripted.to_str().unwrap(), "--prompts=100000"],
            "shorten the prompt",
        ),
        (
            &[models().scripted.to_str().unwrap(), "--rate=0"],
            "--rate must be above 0",
        ),
    ] {
        let (succeeded, message) = bench(args);
        assert!(!succeeded && message.contains(part), "{message}");
    }
}
