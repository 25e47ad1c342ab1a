//! Measures how long a small write waits, at the longest, while a large file is stored, completed from its parts and
//! deleted: all writes go through one writer. Prints JSON.
//!
//!     cargo run --release --example writer_waits

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use inglenook::store::{EmbedderId, NewFile, NewUpload, Store, UploadStatus};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const PART_BYTES: usize = 64 << 20;
const NUM_PARTS: usize = 8;

#[tokio::main]
async fn main() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let embedder = EmbedderId {
        hash: "none".into(),
        dimensions: 4,
    };
    let store = Store::open(dir.path(), embedder).await?;
    let (idle, ()) = waits(&store, async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok::<_, std::io::Error>(())
    })
    .await?;
    let (upload_id, part_ids) = upload(&store, dir.path()).await?;
    let completing = store.complete_upload(&upload_id, part_ids, None);
    let (completing, upload) = waits(&store, completing).await?;
    let UploadStatus::Completed(file) = upload.status else {
        return Err("the upload is not completed".into());
    };
    let deleting = async {
        store.delete_file(&file.id).await?;
        store.delete_expired().await
    };
    let (deleting, _) = waits(&store, deleting).await?;
    let report = json!({
        "megabytes": (PART_BYTES * NUM_PARTS) >> 20,
        "idle": idle,
        "completing": completing,
        "deleting": deleting,
    });
    println!("{report:#}");
    Ok(())
}

async fn upload(store: &Store, dir: &Path) -> Result<(String, Vec<String>)> {
    let file = NewFile {
        filename: "large.bin".into(),
        purpose: "assistants".into(),
        media_type: "application/octet-stream".into(),
        expires_after_seconds: None,
    };
    let num_bytes = (PART_BYTES * NUM_PARTS) as u64;
    let upload = store.create_upload(NewUpload { file, num_bytes }).await?;
    let path = dir.join("part.bin");
    let mut part_ids = Vec::new();
    for number in 0..NUM_PARTS {
        std::fs::write(&path, vec![number as u8; PART_BYTES])?;
        part_ids.push(store.add_upload_part(&upload.id, path.clone()).await?.id);
    }
    Ok((upload.id, part_ids))
}

/// How long `work` takes, and how long small writes beside it wait; with what it gives.
async fn waits<T, E>(
    store: &Store,
    work: impl Future<Output = std::result::Result<T, E>>,
) -> Result<(Value, T)>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let is_done = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, is_done) = (store.clone(), Arc::clone(&is_done));
        async move {
            let mut waits = Vec::new();
            while !is_done.load(Ordering::Relaxed) {
                let started = Instant::now();
                store
                    .create_conversation(Default::default(), Vec::new())
                    .await?;
                waits.push(started.elapsed().as_secs_f64());
            }
            Ok::<_, inglenook::store::StoreError>(waits)
        }
    });
    let started = Instant::now();
    let done = work.await?;
    let took = started.elapsed();
    is_done.store(true, Ordering::Relaxed);
    let mut waits = writer.await??;
    waits.sort_by(f64::total_cmp);
    let ms = |seconds: Option<&f64>| seconds.map(|seconds| (seconds * 1e4).round() / 10.0);
    let report = json!({
        "took_seconds": took.as_secs_f64(),
        "writes": waits.len(),
        "longest_wait_ms": ms(waits.last()),
        "median_wait_ms": ms(waits.get(waits.len() / 2)),
    });
    Ok((report, done))
}
