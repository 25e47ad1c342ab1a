//! Measures keyword search over a made store of many short passages, whose words are as common as those of a language
//! are (Zipf). Prints JSON: milliseconds of questions of each kind, in all documents and in one of a hundred.
//!
//!     cargo run --release --example keyword_speed -- [passages, by default 1000000] [folder to keep the store in]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use inglenook::store::{
    AttributeFilter, AttributeValue, Attributes, Chunking, CompareOp, Content, EmbedderId,
    FilterValue, NewChunk, NewFile, NewVectorStore, SearchScope, Store,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const CHUNKS_PER_DOCUMENT: usize = 100;
const WORDS_PER_CHUNK: usize = 60;
const VOCABULARY: f64 = 300_000.0;
const QUESTIONS: usize = 100;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let num_chunks: usize = args.next().map_or(Ok(1_000_000), |arg| arg.parse())?;
    let temporary = tempfile::tempdir()?;
    let dir = args
        .next()
        .map_or(temporary.path().to_owned(), PathBuf::from);
    let embedder = EmbedderId {
        hash: "none".into(),
        dimensions: 4,
    };
    let store = Store::open(&dir, embedder).await?;
    let begun = Instant::now();
    let vector_store = match store.vector_store_ids().await?.into_iter().next() {
        Some(id) => id,
        None => filled(&store, num_chunks).await?,
    };
    let filling_s = begun.elapsed().as_secs_f64();

    let all = SearchScope {
        vector_store_ids: vec![vector_store],
        file_ids: None,
        filter: None,
    };
    let some = SearchScope {
        filter: Some(AttributeFilter::Compare {
            op: CompareOp::Eq,
            key: "part".into(),
            value: FilterValue::One(AttributeValue::Number(7.into())),
        }),
        ..all.clone()
    };
    let mut report = json!({ "passages": num_chunks, "filling_s": filling_s });
    for (name, ranks) in [
        // Two function words, three that many passages have, three that few have.
        (
            "ordinary question",
            &[2.0, 9.0, 80.0, 300.0, 900.0, 5e3, 2e4, 9e4][..],
        ),
        ("common words only", &[12.0, 30.0, 60.0, 110.0][..]),
        ("one common word", &[20.0][..]),
        ("rare words only", &[2e4, 5e4, 1e5][..]),
    ] {
        report[name] = json!({
            "in all": measured(&store, ranks, &all).await?,
            "in one of a hundred": measured(&store, ranks, &some).await?,
        });
    }
    println!("{report:#}");
    Ok(())
}

/// A word by its rank among all, from 1.
fn word(rank: f64) -> String {
    format!("w{}x", rank as u64)
}

/// Ranks whose logarithms are equally likely: the word of rank n is n times rarer than the first.
fn draw(random: &mut StdRng) -> String {
    word(VOCABULARY.powf(random.random::<f64>()))
}

async fn filled(store: &Store, num_chunks: usize) -> Result<String> {
    let new = NewVectorStore {
        name: "made".into(),
        description: None,
        metadata: BTreeMap::new(),
        expires_after_days: None,
        files: Vec::new(),
    };
    let vector_store = store.create_vector_store(new).await?.id;
    let mut random = StdRng::seed_from_u64(1);
    for document in 0..num_chunks / CHUNKS_PER_DOCUMENT {
        let file = NewFile {
            filename: format!("{document}.txt"),
            purpose: "assistants".into(),
            media_type: "text/plain".into(),
            expires_after_seconds: None,
        };
        let content = Content::Bytes(Vec::new());
        let file = store.create_file(file, content).await?;
        let part = AttributeValue::Number((document % 100).into());
        let attributes = Attributes::from_iter([("part".to_owned(), part)]);
        let chunking = Chunking {
            max_tokens: 256,
            overlap_tokens: 32,
        };
        store
            .attach(&vector_store, &file.id, attributes, chunking)
            .await?;
        let job = store.claim_next_job().await?.ok_or("no job")?;
        let chunks = (0..CHUNKS_PER_DOCUMENT).map(|ordinal| {
            let words: Vec<String> = (0..WORDS_PER_CHUNK).map(|_| draw(&mut random)).collect();
            let text = words.join(" ");
            NewChunk {
                ordinal: ordinal as u32,
                span: 0..text.len(),
                page_first: 1,
                page_last: 1,
                heading_path: Vec::new(),
                text,
                num_tokens: WORDS_PER_CHUNK as u32,
                vector: vec![1.0, 0.0, 0.0, 0.0],
            }
        });
        store.append_chunks(&job, chunks.collect()).await?;
        store
            .complete_job(&job, CHUNKS_PER_DOCUMENT as u32, Vec::new())
            .await?;
    }
    Ok(vector_store)
}

/// Questions with words near these ranks.
async fn measured(store: &Store, ranks: &[f64], scope: &SearchScope) -> Result<Value> {
    let mut random = StdRng::seed_from_u64(2);
    let mut times = Vec::new();
    for _ in 0..QUESTIONS {
        let near = ranks
            .iter()
            .map(|rank| word(rank * random.random_range(0.8..1.25)));
        let question = near.collect::<Vec<_>>().join(" ");
        let begun = Instant::now();
        let hits = store.keyword_search(&question, scope.clone(), 80).await?;
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        assert!(hits.len() <= 80);
    }
    let first = times[0];
    times.sort_by(f64::total_cmp);
    let at =
        |share: f64| (times[(share * (times.len() - 1) as f64) as usize] * 10.0).round() / 10.0;
    Ok(
        json!({ "p50_ms": at(0.5), "p95_ms": at(0.95), "most_ms": at(1.0), "first_ms": (first * 10.0).round() / 10.0 }),
    )
}
