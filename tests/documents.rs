//! Every real and every hostile document, through the real server: ingested, or refused with a reason, and the server's
//! memory and processes are afterwards what they were.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{PATIENCE, Setup, TestServer};
use inglenook::test_data;
use serde_json::{Value, json};

/// What the server may keep: the vectors of what was added, code of its own that it did not need before, and pages of its
/// allocator that are neither empty nor full.
const MAX_KEPT_BYTES: u64 = 32 << 20;
/// What a third time may add: nothing but noise.
const MAX_GROWTH_BYTES: u64 = 16 << 20;

#[test]
fn every_document_is_ingested_or_refused_and_nothing_stays_behind() {
    let mut files = Vec::new();
    for folder in ["docs", "hostile"] {
        let Some(folder) = test_data::require(folder) else {
            return;
        };
        files_under(&folder, &mut files);
    }
    files.sort();
    let server = Setup::default().start();
    let collection = server.collection();
    let (first, _) = server.ingest(&collection, "first.txt", b"The lamp was lit at dusk.");
    server.delete(&format!("/v1/files/{first}")).ok();
    let before = settled_memory(&server);
    let peak = Peak::of(server.pid());
    let outcomes = ingest_all(&server, &collection, &files);
    let peak = peak.end();
    let after = settled_memory(&server);
    print(&outcomes);
    println!(
        "memory of the server: {} MiB before, {} at its peak, {} after",
        before >> 20,
        peak >> 20,
        after >> 20
    );
    let num_completed = outcomes.iter().filter(|it| it.reason.is_none()).count();
    println!("{num_completed} of {} documents ingested", outcomes.len());
    assert!(num_completed * 2 > outcomes.len());
    if cfg!(target_os = "linux") {
        assert!(
            after <= before + MAX_KEPT_BYTES,
            "the server keeps {} MiB",
            (after - before) >> 20
        );
        // Caches fill until the second time; what grows after that would grow for ever.
        let [second, third] = [2, 3].map(|time| {
            ingest_all(&server, &collection, &files);
            let memory = settled_memory(&server);
            println!("after time {time}: {} MiB", memory >> 20);
            memory
        });
        assert!(third <= second + MAX_GROWTH_BYTES, "the server grows");
        assert_eq!(children(server.pid()), Vec::<u32>::new());
    }
    assert_eq!(server.get("/health").ok()["status"], "ok");
}

struct Outcome {
    file: String,
    /// `None` for one that was ingested.
    reason: Option<String>,
    num_chunks: u64,
    num_warnings: usize,
    seconds: f64,
}

fn ingest_all(server: &TestServer, collection: &str, files: &[PathBuf]) -> Vec<Outcome> {
    let attach = format!("/v1/vector_stores/{collection}/files");
    let mut outcomes = Vec::new();
    let mut ids = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let folder = path.parent().unwrap().file_name().unwrap();
        let shown = format!("{}/{name}", folder.to_string_lossy());
        let started = Instant::now();
        let uploaded = server.upload(&name, &std::fs::read(path).unwrap());
        let (document, id) = match uploaded.status {
            200 => {
                let id = uploaded.json()["id"].as_str().unwrap().to_owned();
                server.post(&attach, json!({ "file_id": id })).ok();
                (server.wait_for(collection, &id), Some(id))
            }
            // One without a byte is not taken.
            _ => (json!({ "last_error": uploaded.json()["error"] }), None),
        };
        outcomes.push(outcome(shown, &document, started.elapsed()));
        ids.extend(id);
    }
    for id in ids {
        server.delete(&format!("/v1/files/{id}")).ok();
    }
    outcomes
}

fn outcome(file: String, document: &Value, took: Duration) -> Outcome {
    let num_chunks = document["num_chunks"].as_u64().unwrap_or(0);
    let reason = match document["status"] == "completed" {
        true => {
            assert!(num_chunks > 0, "{file}: {document}");
            None
        }
        false => {
            let reason = document["last_error"]["message"].as_str();
            let reason = reason.unwrap_or_default().to_owned();
            assert!(reason.len() > 20, "{file}: {document}");
            // Nothing in a file may look like a fault of the server.
            assert_ne!(
                document["last_error"]["code"], "server_error",
                "{file}: {reason}"
            );
            Some(reason)
        }
    };
    let warnings = document["page_warnings"].as_array();
    Outcome {
        file,
        reason,
        num_chunks,
        num_warnings: warnings.map_or(0, Vec::len),
        seconds: took.as_secs_f64(),
    }
}

fn print(outcomes: &[Outcome]) {
    let mut by_reason: BTreeMap<&str, usize> = BTreeMap::new();
    for it in outcomes {
        let result = match &it.reason {
            None => format!("{} passages, {} warnings", it.num_chunks, it.num_warnings),
            Some(reason) => {
                *by_reason.entry(reason).or_default() += 1;
                format!("refused: {reason}")
            }
        };
        println!("{:50} {:5.1} s  {result}", it.file, it.seconds);
    }
    println!("{} different reasons", by_reason.len());
}

fn files_under(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files_under(&path, found),
            // A long novel is cut in tests of its own; with models that are not optimised it takes minutes to embed.
            false if path.metadata().unwrap().len() > 2_000_000 => {}
            false => found.push(path),
        }
    }
}

/// Resident bytes of a process; 0 where the system does not tell.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok());
    kibibytes.unwrap_or(0u64) << 10
}

/// What the server has once it has stopped giving memory back, which it does for some seconds after its work.
fn settled_memory(server: &TestServer) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let mut lowest = memory(server.pid());
    let mut lowest_at = Instant::now();
    while lowest_at.elapsed() < Duration::from_secs(12) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
        let now = memory(server.pid());
        if now + (1 << 20) < lowest {
            (lowest, lowest_at) = (now, Instant::now());
        }
    }
    lowest
}

fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let path = task.unwrap().path().join("children");
        let listed = std::fs::read_to_string(path).unwrap_or_default();
        found.extend(
            listed
                .split_whitespace()
                .map(|it| it.parse::<u32>().unwrap()),
        );
    }
    found
}

/// The most that a process had between two moments.
struct Peak {
    highest: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    watcher: std::thread::JoinHandle<()>,
}

impl Peak {
    fn of(pid: u32) -> Self {
        let highest = Arc::new(AtomicU64::new(0));
        let ends = Arc::new(AtomicBool::new(false));
        let (seen, stop) = (Arc::clone(&highest), Arc::clone(&ends));
        let watcher = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                seen.fetch_max(memory(pid), Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(20));
            }
        });
        Self {
            highest,
            ends,
            watcher,
        }
    }

    fn end(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.watcher.thread().unpark();
        self.watcher.join().unwrap();
        self.highest.load(Ordering::Relaxed)
    }
}
