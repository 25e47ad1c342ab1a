//! The vector index on disk: one file that is replaced whole, never changed in place. It holds usearch's own bytes, the
//! chunks of each document, a description and a checksum. Any doubt about it is an error, upon which it is rebuilt.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::EmbedderId;
use super::error::{Result, StoreError};
use super::vector_index::{Position, VectorIndex, new_graph};

const MAGIC: &[u8; 8] = b"INGLEVEC";
const FORMAT: u32 = 1;
/// At the end of the file: length of the description, checksum of all before the checksum, magic.
const TRAILER_BYTES: u64 = 4 + 32 + 8;
const TEMP_PREFIX: &str = ".vectors-";

#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    embedder_hash: String,
    dimensions: usize,
    num_vectors: usize,
    seq: i64,
    nonce: i64,
    documents_bytes: u64,
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("vectors.usearch")
}

/// That of an embedder whose documents are being embedded anew by another.
pub(super) fn path_of_other(dir: &Path, embedder: &EmbedderId) -> PathBuf {
    let letters = embedder.hash.chars().filter(char::is_ascii_alphanumeric);
    let short: String = letters.take(16).collect();
    dir.join(format!("vectors-{short}.usearch"))
}

/// Writes the index beside its place, makes it durable and moves it there.
pub(super) fn save(index: &VectorIndex, path: &Path, embedder: &EmbedderId) -> Result<()> {
    let failed =
        |source| StoreError::io(format!("save the vector index {}", path.display()), source);
    let dir = path.parent().unwrap_or(Path::new("."));
    remove_abandoned(dir);
    let temp = tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        .tempfile_in(dir)
        .map_err(failed)?;
    index
        .graph()
        .save(utf8(temp.path())?)
        .map_err(|error| StoreError::VectorIndex(error.to_string()))?;

    let mut documents = Vec::new();
    for (document_id, chunk_ids) in index.documents() {
        for number in [*document_id, chunk_ids.len() as i64]
            .iter()
            .chain(chunk_ids)
        {
            documents.extend(number.to_le_bytes());
        }
    }
    let description = Description {
        format: FORMAT,
        embedder_hash: embedder.hash.clone(),
        dimensions: embedder.dimensions,
        num_vectors: index.len(),
        seq: index.position.seq,
        nonce: index.position.nonce,
        documents_bytes: documents.len() as u64,
    };
    let description = serde_json::to_vec(&description).map_err(|error| failed(error.into()))?;

    // usearch opened the file by its name; this handle sees what it wrote.
    let mut file = File::options()
        .read(true)
        .append(true)
        .open(temp.path())
        .map_err(failed)?;
    let mut tail = documents;
    tail.extend(&description);
    tail.extend((description.len() as u32).to_le_bytes());
    file.write_all(&tail).map_err(failed)?;
    let checksum = checksum(&mut file, u64::MAX).map_err(failed)?;
    file.write_all(&checksum)
        .and_then(|()| file.write_all(MAGIC))
        .map_err(failed)?;
    file.sync_all().map_err(failed)?;
    temp.persist(path).map_err(|error| failed(error.error))?;
    // The rename itself must last, or the old file is back after a power failure, which does no harm.
    Ok(())
}

/// Reads a saved index. Says why it cannot be used: missing, damaged, or of another embedder.
pub(super) fn load(path: &Path, embedder: &EmbedderId) -> Result<VectorIndex> {
    let failed =
        |source| StoreError::io(format!("read the vector index {}", path.display()), source);
    let unusable = |why: &str| StoreError::VectorIndex(format!("{} {why}", path.display()));
    let mut file = File::open(path).map_err(failed)?;
    let num_bytes = file.metadata().map_err(failed)?.len();
    if num_bytes < TRAILER_BYTES {
        return Err(unusable("is cut short"));
    }
    let mut trailer = [0; TRAILER_BYTES as usize];
    file.seek(SeekFrom::End(-(TRAILER_BYTES as i64)))
        .and_then(|_| file.read_exact(&mut trailer))
        .map_err(failed)?;
    // usearch trusts what it reads, so nothing reaches it that was not written by `save`.
    if &trailer[36..] != MAGIC
        || checksum(&mut file, num_bytes - 40).map_err(failed)? != trailer[4..36]
    {
        return Err(unusable("is damaged or cut short"));
    }
    let description_bytes = u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]);
    let read_before = |file: &mut File, end: u64, length: u64| {
        let start = end
            .checked_sub(length)
            .ok_or(std::io::ErrorKind::InvalidData)?;
        let mut bytes = vec![0; length as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut bytes)?;
        Ok((bytes, start))
    };
    let end = num_bytes - TRAILER_BYTES;
    let (description, end) =
        read_before(&mut file, end, description_bytes.into()).map_err(failed)?;
    let description: Description = serde_json::from_slice(&description)
        .map_err(|_| unusable("has a description of another version"))?;
    if description.format != FORMAT {
        return Err(unusable("has another format"));
    }
    if description.embedder_hash != embedder.hash || description.dimensions != embedder.dimensions {
        return Err(unusable("was made with another embedder"));
    }
    let (documents, _) =
        read_before(&mut file, end, description.documents_bytes).map_err(failed)?;
    let documents =
        parse_documents(&documents).ok_or_else(|| unusable("lists its documents wrongly"))?;

    let graph = new_graph(embedder.dimensions)?;
    graph
        .load(utf8(path)?)
        .map_err(|error| StoreError::VectorIndex(error.to_string()))?;
    let num_listed: usize = documents.values().map(Vec::len).sum();
    if graph.dimensions() != embedder.dimensions
        || graph.size() != description.num_vectors
        || graph.size() != num_listed
    {
        return Err(unusable("does not hold what it says"));
    }
    let position = Position {
        seq: description.seq,
        nonce: description.nonce,
    };
    VectorIndex::from_parts(graph, documents, position)
}

fn parse_documents(bytes: &[u8]) -> Option<HashMap<i64, Vec<i64>>> {
    let mut numbers = bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|number| i64::from_le_bytes(*number));
    let mut documents = HashMap::new();
    while let Some(document_id) = numbers.next() {
        let num_chunks = usize::try_from(numbers.next()?).ok()?;
        let chunk_ids: Vec<i64> = numbers.by_ref().take(num_chunks).collect();
        if chunk_ids.len() != num_chunks {
            return None;
        }
        documents.insert(document_id, chunk_ids);
    }
    Some(documents)
}

/// SHA-256 of the file's first `num_bytes`, or of all of it.
fn checksum(file: &mut File, num_bytes: u64) -> std::io::Result<[u8; 32]> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 20, file).take(num_bytes);
    let mut hash = Sha256::new();
    std::io::copy(&mut reader, &mut hash)?;
    Ok(hash.finalize().into())
}

/// Deletes files that a process which ended while saving left; not those that one may be writing now.
fn remove_abandoned(dir: &Path) {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX);
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .map(|time| time.elapsed().unwrap_or_default());
        if is_ours && age.is_ok_and(|age| age > Duration::from_secs(3600)) {
            // Another process may have deleted it first.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn utf8(path: &Path) -> Result<&str> {
    let why = "usearch takes only paths that are UTF-8";
    path.to_str()
        .ok_or_else(|| StoreError::VectorIndex(format!("{} cannot be used: {why}", path.display())))
}
