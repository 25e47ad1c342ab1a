//! Many clients at once that come, go and change their minds, for as long as it takes to see a leak: 10 seconds, or two
//! minutes with INGLENOOK_TEST_THOROUGH. Every request is answered, and in the end no block of the cache is held and no
//! more memory than in the beginning.

mod common;

use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use common::{PATIENCE, Setup, TestServer};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

const NUM_CLIENTS: u64 = 32;

#[derive(Default)]
struct Counts {
    num_answered: AtomicUsize,
    num_refused: AtomicUsize,
    num_abandoned: AtomicUsize,
}

/// One client's request, to its end or until it has had enough.
fn ask(server: &TestServer, random: &mut StdRng, counts: &Counts) {
    let num_words = random.random_range(1..60);
    let beginning = ["one", "two", "three"][random.random_range(0..3)];
    let words = [beginning; 60][..num_words].join(" ");
    let streams = random.random_bool(0.7);
    let body = json!({
        "model": "endless",
        "messages": [{ "role": "user", "content": words }],
        "max_tokens": random.random_range(1..80),
        "n": random.random_range(1..4),
        "stream": streams,
        "user": format!("user {}", random.random_range(0..5)),
    });
    let path = "/v1/chat/completions";
    let mut lines = BufReader::new(server.open("POST", path, &body.to_string())).lines();
    let mut next = || lines.next().map(|line| line.expect("the server answers"));
    // Some leave before there is an answer, some in the middle of it.
    let patience = match random.random_bool(0.3) {
        true => random.random_range(0..30),
        false => usize::MAX,
    };
    if patience == 0 {
        counts.num_abandoned.fetch_add(1, Relaxed);
        return;
    }
    let status = next().expect("an answer has a status");
    if status.contains(" 429 ") {
        counts.num_refused.fetch_add(1, Relaxed);
        std::thread::sleep(Duration::from_millis(50));
        return;
    }
    assert!(status.contains(" 200 "), "{status}");
    for _ in 0..patience {
        let Some(line) = next() else {
            panic!("the answer ended early");
        };
        assert!(!line.contains("\"error\""), "{line}");
        let is_last = match streams {
            true => line == "data: [DONE]",
            false => line.starts_with('{') && line.contains("finish_reason"),
        };
        if is_last {
            counts.num_answered.fetch_add(1, Relaxed);
            return;
        }
    }
    counts.num_abandoned.fetch_add(1, Relaxed);
}

/// Resident memory in KiB.
#[cfg(target_os = "linux")]
fn resident(server: &TestServer) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn clients_that_come_and_go_leave_nothing_behind() {
    let time = match std::env::var_os("INGLENOOK_TEST_THOROUGH") {
        Some(_) => Duration::from_secs(120),
        None => Duration::from_secs(10),
    };
    let mut setup = Setup::endless();
    // Little enough that sequences are preempted.
    setup
        .environment
        .push(("INGLENOOK_KV_CACHE_TOKENS", "2048"));
    setup.environment.push(("INGLENOOK_MAX_WAITING", "16"));
    let server = setup.start();
    let counts = Counts::default();
    let end = Instant::now() + time;
    let mut warm = 0;
    std::thread::scope(|scope| {
        for client in 0..NUM_CLIENTS {
            let (server, counts) = (&server, &counts);
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(client);
                while Instant::now() < end {
                    ask(server, &mut random, counts);
                }
            });
        }
        std::thread::sleep(time / 2);
        warm = resident(&server);
    });
    let engine = wait_until_idle(&server);
    let (answered, refused, abandoned) = (
        counts.num_answered.load(Relaxed),
        counts.num_refused.load(Relaxed),
        counts.num_abandoned.load(Relaxed),
    );
    let after = resident(&server);
    println!(
        "{answered} answered, {refused} refused, {abandoned} abandoned; {warm} KiB resident at half time, {after} after"
    );
    println!("{engine}");
    assert!(answered > 50 && abandoned > 20);
    assert!(engine["num_preemptions"].as_u64() > Some(0), "{engine}");
    assert!(
        after < warm + warm / 10 + 4096,
        "{warm} KiB, then {after} KiB"
    );
}

fn wait_until_idle(server: &TestServer) -> serde_json::Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let engine = server.get("/health").ok()["engine"].clone();
        let is_idle = engine["num_running"] == 0
            && engine["num_waiting"] == 0
            && engine["num_free_blocks"] == engine["num_blocks"];
        if is_idle {
            return engine;
        }
        assert!(
            Instant::now() < deadline,
            "something is still held: {engine}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
