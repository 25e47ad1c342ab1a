//! Measures vector search at size, through the store as the product uses it: recall against exact search, latency, build
//! and start times, memory. Prints JSON.
//!
//!     cargo run --release --example vector_search -- make FOLDER 1000000
//!     cargo run --release --example vector_search -- build FOLDER i8
//!     cargo run --release --example vector_search -- search FOLDER i8
//!     cargo run --release --example vector_search -- wear FOLDER i8
//!
//! `make` writes vectors of 384 numbers that lie as those of texts do (`vectors.rs` says how), or, with a third argument,
//! `random` ones or those of a file of f32, and a data folder that holds them in documents of ten chunks. `build` makes
//! the index and saves it, `search` starts from that file and searches, and `wear` deletes and adds documents in between;
//! it changes the data folder. `embed MODEL_FOLDER FILE` writes such a file of f32 from lines of text on standard input.

mod exact;
mod vectors;

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use exact::Question;
use inglenook::embedding::{Embedder, EmbedderOptions, InputKind, Priority};
use inglenook::store::{
    AttributeFilter, AttributeValue, CompareOp, EmbedderId, FilterValue, SearchScope, Store,
    VectorStorage,
};
use serde_json::{Value, json};
use vectors::{CHUNKS_PER_DOCUMENT, Collection, DIMENSIONS, REGIONS};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: usize = 10;
/// Documents that are deleted or added at a time.
const STEP: usize = 4_000;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let report = match args[..] {
        ["embed", model, file] => embed(Path::new(model), Path::new(file)).await?,
        ["make", folder, count] => make(Path::new(folder), count.parse()?, "texts").await?,
        ["make", folder, count, kind] => make(Path::new(folder), count.parse()?, kind).await?,
        ["build", folder, storage] => build(Path::new(folder), storage.parse()?).await?,
        ["search", folder, storage] => search(Path::new(folder), storage.parse()?).await?,
        ["wear", folder, storage] => wear(Path::new(folder), storage.parse()?).await?,
        _ => return Err("usage: see the head of examples/vector_search/main.rs".into()),
    };
    println!("{report:#}");
    Ok(())
}

async fn embed(model: &Path, file: &Path) -> Result<Value> {
    let embedder = Embedder::load(model, EmbedderOptions::default())?;
    let lines: Vec<String> = std::io::stdin()
        .lock()
        .lines()
        .collect::<std::io::Result<_>>()?;
    let mut numbers = Vec::new();
    for texts in lines.chunks(256) {
        let embedded = embedder.embed(texts.to_vec(), InputKind::Raw, Priority::Interactive);
        numbers.extend(embedded.await?.vectors.concat());
    }
    vectors::write(file, &numbers)?;
    Ok(json!({ "vectors": lines.len() }))
}

async fn make(folder: &Path, count: usize, kind: &str) -> Result<Value> {
    let start = Instant::now();
    vectors::make(folder, count, kind)?;
    let data = folder.join("data");
    open(folder, VectorStorage::default()).await?;
    let collection = Collection::open(folder)?;
    vectors::fill(&data, &collection, 0..collection.num_documents())?;
    Ok(json!({ "vectors": count, "seconds": start.elapsed().as_secs() }))
}

async fn build(folder: &Path, storage: VectorStorage) -> Result<Value> {
    let store = open(folder, storage).await?;
    let start = Instant::now();
    store.warm_vector_index().await?;
    let built = start.elapsed();
    let start = Instant::now();
    store.flush().await?;
    let file = folder.join("data").join("vectors.usearch");
    Ok(json!({
        "seconds": built.as_secs_f64(),
        "seconds to save": start.elapsed().as_secs_f64(),
        "MiB of the file": std::fs::metadata(file)?.len() >> 20,
        "MiB resident": resident_mib(),
    }))
}

async fn search(folder: &Path, storage: VectorStorage) -> Result<Value> {
    let collection = Collection::open(folder)?;
    let scope = Scope::new(folder)?;
    let before = resident_mib();
    let start = Instant::now();
    let store = open(folder, storage).await?;
    let query = collection.queries[0].clone();
    // As a server starts: the first search asks for the index and does not wait for it.
    store
        .vector_search(query.clone(), scope.all(), LIMIT)
        .await?;
    let first = start.elapsed();
    let second = Instant::now();
    store.vector_search(query, scope.all(), LIMIT).await?;
    let second = second.elapsed();
    store.warm_vector_index().await?;
    let report = json!({
        "first search, ms": millis(first),
        "second search, ms": millis(second),
        "index ready, ms": millis(start.elapsed()),
        "MiB resident": resident_mib() - before,
    });
    let num_documents = collection.num_documents();
    let is_there = |document| document < num_documents;
    let figures = all_figures(&store, &collection, &scope, is_there, true).await?;
    Ok(json!({ "start": report, "searches": figures }))
}

async fn wear(folder: &Path, storage: VectorStorage) -> Result<Value> {
    let data = folder.join("data");
    let collection = Collection::open(folder)?;
    let scope = Scope::new(folder)?;
    let store = open(folder, storage).await?;
    store.warm_vector_index().await?;
    let num_documents = collection.num_documents();
    let mut report = serde_json::Map::new();
    let phases = [
        ("10% deleted", 1, false),
        ("30% deleted", 3, false),
        ("60% deleted, 30% added", 6, true),
    ];
    for (name, num_classes, adds) in phases {
        let gone: Vec<usize> = (0..num_documents)
            .filter(|document| document % 10 < num_classes)
            .collect();
        let start = Instant::now();
        for documents in gone.chunks(STEP) {
            vectors::delete(&data, documents)?;
            store
                .vector_search(collection.queries[0].clone(), scope.all(), LIMIT)
                .await?;
        }
        let added = num_documents..num_documents + collection.num_extra_documents();
        if adds {
            for from in added.clone().step_by(STEP) {
                vectors::fill(&data, &collection, from..(from + STEP).min(added.end))?;
                store
                    .vector_search(collection.queries[0].clone(), scope.all(), LIMIT)
                    .await?;
            }
        }
        let is_there = |document: usize| match document < num_documents {
            true => document % 10 >= num_classes,
            false => adds,
        };
        // While the index may be building: what a search gets meanwhile.
        let (times, _) = times(&store, &collection, |_| scope.all()).await?;
        let meanwhile = percentiles(times);
        store.warm_vector_index().await?;
        let seconds = start.elapsed().as_secs_f64();
        let figures = all_figures(&store, &collection, &scope, is_there, false).await?;
        let phase = json!({ "seconds": seconds, "meanwhile, ms": meanwhile, "searches": figures });
        report.insert(name.into(), phase);
    }
    report.insert("MiB resident".into(), resident_mib().into());
    Ok(report.into())
}

/// Recall and latency of every filter, over the documents that are there.
async fn all_figures(
    store: &Store,
    collection: &Collection,
    scope: &Scope,
    is_there: impl Fn(usize) -> bool + Sync,
    with_two: bool,
) -> Result<Value> {
    let filters = Filter::all();
    let questions: Vec<Question> = filters
        .iter()
        .map(|filter| Question {
            limit: LIMIT,
            is_allowed: Box::new(|query, document| {
                is_there(document)
                    && filter.takes(
                        collection.query_regions[query],
                        collection.share(document),
                        collection.regions[document],
                    )
            }),
        })
        .collect();
    let best = exact::best(collection, &questions)?;
    let mut report = serde_json::Map::new();
    for (filter, best) in filters.iter().zip(best) {
        let scope_of = |query: usize| scope.filtered(filter, collection.query_regions[query]);
        // The first search of a scope reads its documents; those of a filter are two scopes at most.
        let first = Instant::now();
        store
            .vector_search(collection.queries[0].clone(), scope_of(0), LIMIT)
            .await?;
        let first = first.elapsed();
        times(store, collection, scope_of).await?;
        let (alone, found) = times(store, collection, scope_of).await?;
        let mut num_found = 0;
        for (found, best) in found.iter().zip(&best) {
            // Chunks have the ids of their vectors, from 1 on.
            let ids: Vec<i64> = best.iter().map(|vector| *vector as i64 + 1).collect();
            num_found += found.iter().filter(|id| ids.contains(id)).count();
        }
        let num_expected: usize = best.iter().map(Vec::len).sum();
        let mut figures = json!({
            "recall": num_found as f64 / num_expected as f64,
            "first, ms": millis(first),
            "alone, ms": percentiles(alone),
        });
        if with_two {
            let store = Arc::new(store.clone());
            let halves = (0..2).map(|half| {
                let store = Arc::clone(&store);
                let work: Vec<(Vec<f32>, SearchScope)> = (half..collection.queries.len())
                    .step_by(2)
                    .map(|query| (collection.queries[query].clone(), scope_of(query)))
                    .collect();
                tokio::spawn(async move {
                    let mut times = Vec::new();
                    for (query, scope) in work {
                        let start = Instant::now();
                        store.vector_search(query, scope, LIMIT).await?;
                        times.push(start.elapsed());
                    }
                    Ok::<_, Box<dyn std::error::Error + Send + Sync>>(times)
                })
            });
            let halves: Vec<_> = halves.collect();
            let mut both = Vec::new();
            for half in halves {
                both.extend(half.await??);
            }
            figures["two at once, ms"] = percentiles(both);
        }
        report.insert(filter.name(), figures);
    }
    Ok(report.into())
}

/// How long each query takes, and the chunks it finds.
async fn times(
    store: &Store,
    collection: &Collection,
    scope_of: impl Fn(usize) -> SearchScope,
) -> Result<(Vec<Duration>, Vec<Vec<i64>>)> {
    let (mut times, mut found) = (Vec::new(), Vec::new());
    for (number, query) in collection.queries.iter().enumerate() {
        let (query, scope) = (query.clone(), scope_of(number));
        let start = Instant::now();
        let hits = store.vector_search(query, scope, LIMIT).await?;
        times.push(start.elapsed());
        found.push(hits.iter().map(|hit| hit.chunk_id).collect());
    }
    Ok((times, found))
}

/// Which documents a search may see.
enum Filter {
    All,
    /// So many of a thousand, without regard to what they say.
    Share(i64),
    /// So many of a thousand regions, around the query's own or at the other end.
    Near(i64),
    Far(i64),
}

impl Filter {
    fn all() -> Vec<Self> {
        let mut all = vec![Self::All];
        all.extend([1, 10, 100, 500, 900].map(Self::Share));
        all.extend([100, 500].map(Self::Near));
        all.extend([100, 500, 900].map(Self::Far));
        all
    }

    fn name(&self) -> String {
        let percent = |share: &i64| *share as f64 / 10.0;
        match self {
            Self::All => "all".into(),
            Self::Share(share) => format!("{}%", percent(share)),
            Self::Near(share) => format!("{}%, near", percent(share)),
            Self::Far(share) => format!("{}%, far", percent(share)),
        }
    }

    /// Attribute, and the values that it must lie between.
    fn range(&self, query_region: i64) -> Option<(&'static str, i64, i64)> {
        let is_low = query_region < REGIONS / 2;
        match self {
            Self::All => None,
            Self::Share(share) => Some(("share", 0, *share)),
            Self::Near(share) if is_low => Some(("region", 0, *share)),
            Self::Far(share) if !is_low => Some(("region", 0, *share)),
            Self::Near(share) | Self::Far(share) => Some(("region", REGIONS - share, REGIONS)),
        }
    }

    fn takes(&self, query_region: i64, share: i64, region: i64) -> bool {
        self.range(query_region)
            .is_none_or(|(name, from, to)| match name {
                "share" => (from..to).contains(&share),
                _ => (from..to).contains(&region),
            })
    }
}

struct Scope {
    vector_store_ids: Vec<String>,
}

impl Scope {
    fn new(folder: &Path) -> Result<Self> {
        let vector_store_ids = vec![vectors::vector_store(&folder.join("data"))?];
        Ok(Self { vector_store_ids })
    }

    fn all(&self) -> SearchScope {
        SearchScope {
            vector_store_ids: self.vector_store_ids.clone(),
            ..SearchScope::default()
        }
    }

    fn filtered(&self, filter: &Filter, query_region: i64) -> SearchScope {
        let compare = |op, key: &str, value: i64| AttributeFilter::Compare {
            op,
            key: key.into(),
            value: FilterValue::One(AttributeValue::Number(value.into())),
        };
        let filter = filter.range(query_region).map(|(name, from, to)| {
            AttributeFilter::And(vec![
                compare(CompareOp::Gte, name, from),
                compare(CompareOp::Lt, name, to),
            ])
        });
        SearchScope {
            filter,
            ..self.all()
        }
    }
}

async fn open(folder: &Path, storage: VectorStorage) -> Result<Store> {
    let embedder = EmbedderId {
        hash: "measured".into(),
        dimensions: DIMENSIONS,
    };
    Ok(Store::open_with(&folder.join("data"), embedder, storage).await?)
}

fn percentiles(mut times: Vec<Duration>) -> Value {
    times.sort();
    let at = |share: f64| millis(times[((times.len() - 1) as f64 * share).round() as usize]);
    json!({ "p50": at(0.5), "p95": at(0.95), "p99": at(0.99) })
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

/// Memory of this process that is its own; what it has mapped from files can be dropped at any time.
fn resident_mib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("RssAnon"));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<i64>().ok());
    number.unwrap_or(0) >> 10
}

const _: () = assert!(CHUNKS_PER_DOCUMENT == 10);
