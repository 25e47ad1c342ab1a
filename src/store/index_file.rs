//! The vector index on disk: one file that is replaced whole, never changed in place. It holds usearch's own bytes, the
//! rows with their codes, a description and checksums. Any doubt about it is an error, upon which it is rebuilt.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::EmbedderId;
use super::codes::Codes;
use super::error::{Result, StoreError};
use super::files::hexadecimal;
use super::graph::{Graph, VectorStorage};
use super::id_set::IdSet;
use super::sketches::Sketches;
use super::vector_index::{Position, VectorIndex, vector_from_bytes};
use super::vector_rows::{Run, VectorRows};
use crate::kernels::mapped_file::MappedFile;

const MAGIC: &[u8; 8] = b"INGLEVEC";
const FORMAT: u32 = 3;
/// As the one of now, without sketches.
const FORMAT_WITHOUT_SKETCHES: u32 = 2;
/// At the end of the file: length of the description, checksum of rows and description, magic.
const TRAILER_BYTES: usize = 4 + 32 + 8;
const TEMP_PREFIX: &str = ".vectors-";

#[derive(Serialize, Deserialize)]
struct Description {
    format: u32,
    embedder_hash: String,
    dimensions: usize,
    seq: i64,
    nonce: i64,
    num_rows: usize,
    num_runs: usize,
    graph: Option<GraphDescription>,
}

#[derive(Serialize, Deserialize)]
struct GraphDescription {
    storage: VectorStorage,
    num_bytes: usize,
    sha256: String,
    num_node_words: usize,
}

/// A graph in a file that was opened, not read yet: that takes a while, and searches are right without it.
pub(super) struct SavedGraph {
    file: MappedFile,
    description: GraphDescription,
    dimensions: usize,
    nodes: IdSet,
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
    let graph = match index.graph() {
        Some(graph) => Some(save_graph(graph, temp.path(), failed)?),
        None => None,
    };
    let rows = index.rows();
    let description = Description {
        format: FORMAT,
        embedder_hash: embedder.hash.clone(),
        dimensions: embedder.dimensions,
        seq: index.position.seq,
        nonce: index.position.nonce,
        num_rows: rows.len(),
        num_runs: rows.live_runs().count(),
        graph,
    };
    let description = serde_json::to_vec(&description).map_err(|error| failed(error.into()))?;
    // usearch opened the file by its name; this handle adds to what it wrote.
    let file = File::options()
        .append(true)
        .open(temp.path())
        .map_err(failed)?;
    let mut file = Hashing {
        to: BufWriter::with_capacity(1 << 20, file),
        hash: Sha256::new(),
    };
    write_rows(&mut file, index)
        .and_then(|()| file.write_all(&description))
        .and_then(|()| file.write_all(&(description.len() as u32).to_le_bytes()))
        .map_err(failed)?;
    let checksum = file.hash.finalize();
    let mut file = file.to;
    file.write_all(&checksum)
        .and_then(|()| file.write_all(MAGIC))
        .and_then(|()| file.flush())
        .and_then(|()| file.get_ref().sync_all())
        .map_err(failed)?;
    temp.persist(path).map_err(|error| failed(error.error))?;
    // The rename itself must last, or the old file is back after a power failure, which does no harm.
    Ok(())
}

/// What a file held.
pub(super) struct Loaded {
    pub index: VectorIndex,
    pub graph: Option<SavedGraph>,
    /// Whether it lacks what a file that is written now would have.
    pub is_of_earlier_format: bool,
}

/// Reads all of a saved index but its graph. Says why it cannot be used: missing, damaged, or of another embedder.
pub(super) fn load(path: &Path, embedder: &EmbedderId) -> Result<Loaded> {
    let failed =
        |source| StoreError::io(format!("read the vector index {}", path.display()), source);
    let unusable = |why: &str| StoreError::VectorIndex(format!("{} {why}", path.display()));
    let damaged = || unusable("is damaged or cut short");
    let file = MappedFile::open(path).map_err(failed)?;
    let (content, trailer) = file
        .split_at_checked(file.len().saturating_sub(TRAILER_BYTES))
        .filter(|(_, trailer)| trailer.len() == TRAILER_BYTES && &trailer[36..] == MAGIC)
        .ok_or_else(damaged)?;
    let length = u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]) as usize;
    let start = content.len().checked_sub(length).ok_or_else(damaged)?;
    let description: Description = serde_json::from_slice(&content[start..])
        .map_err(|_| unusable("has a description of another version"))?;
    if ![FORMAT, FORMAT_WITHOUT_SKETCHES].contains(&description.format) {
        return Err(unusable("has another format"));
    }
    let start = description
        .graph
        .as_ref()
        .map_or(0, |graph| graph.num_bytes);
    let checked = file
        .get(start..file.len() - (TRAILER_BYTES - 4))
        .ok_or_else(damaged)?;
    if Sha256::digest(checked)[..] != trailer[4..36] {
        return Err(damaged());
    }
    if description.embedder_hash != embedder.hash || description.dimensions != embedder.dimensions {
        return Err(unusable("was made with another embedder"));
    }
    let (rows, nodes) =
        read_rows(checked, &description).ok_or_else(|| unusable("does not hold what it says"))?;
    let position = Position {
        seq: description.seq,
        nonce: description.nonce,
    };
    let graph = description.graph.map(|graph| SavedGraph {
        description: graph,
        dimensions: embedder.dimensions,
        nodes,
        file,
    });
    Ok(Loaded {
        index: VectorIndex::from_parts(rows, position),
        graph,
        is_of_earlier_format: description.format != FORMAT,
    })
}

impl SavedGraph {
    pub(super) fn load(self) -> Result<Graph> {
        let bytes = &self.file[..self.description.num_bytes];
        // usearch trusts what it reads, so nothing reaches it that was not written by `save`.
        if hexadecimal(&Sha256::digest(bytes)) != self.description.sha256 {
            let why = "the graph of the saved vector index is damaged";
            return Err(StoreError::VectorIndex(why.to_owned()));
        }
        Graph::from_bytes(self.dimensions, self.description.storage, bytes, self.nodes)
    }
}

fn save_graph(
    graph: &Graph,
    path: &Path,
    failed: impl Fn(std::io::Error) -> StoreError,
) -> Result<GraphDescription> {
    graph.save(utf8(path)?)?;
    let mut file = File::open(path).map_err(&failed)?;
    let num_bytes = file.seek(SeekFrom::End(0)).map_err(&failed)? as usize;
    Ok(GraphDescription {
        storage: graph.storage(),
        num_bytes,
        sha256: hexadecimal(&checksum(&mut file).map_err(&failed)?),
        num_node_words: graph.nodes().words().len(),
    })
}

fn write_rows(file: &mut impl Write, index: &VectorIndex) -> std::io::Result<()> {
    let rows = index.rows();
    let (numbers, scales, errors) = rows.codes.parts();
    let (sketches, sketch_scales, tangents) = rows.codes.sketches().parts();
    for part in numbers.chunks(1 << 16) {
        let bytes: Vec<u8> = part.iter().map(|number| *number as u8).collect();
        file.write_all(&bytes)?;
    }
    for value in scales.iter().chain(errors) {
        file.write_all(&value.to_le_bytes())?;
    }
    for chunk_id in rows.chunk_ids() {
        file.write_all(&chunk_id.to_le_bytes())?;
    }
    for run in rows.live_runs() {
        for number in [run.document_id, run.start, run.len] {
            file.write_all(&number.to_le_bytes())?;
        }
    }
    file.write_all(sketches)?;
    for value in sketch_scales.iter().chain(tangents) {
        file.write_all(&value.to_le_bytes())?;
    }
    for word in index.graph().map_or(&[][..], |graph| graph.nodes().words()) {
        file.write_all(&word.to_le_bytes())?;
    }
    Ok(())
}

/// The rows, and which of them have a node in the graph.
fn read_rows(bytes: &[u8], description: &Description) -> Option<(VectorRows, IdSet)> {
    let mut rest = bytes;
    let mut take = |count: usize, size: usize| {
        let (part, after) = rest.split_at_checked(count.checked_mul(size)?)?;
        rest = after;
        Some(part)
    };
    let num_rows = description.num_rows;
    let numbers = take(num_rows, description.dimensions)?;
    let scales = take(num_rows, 4)?;
    let errors = take(num_rows, 4)?;
    let chunk_ids = take(num_rows, 8)?;
    let runs = take(description.num_runs, 12)?;
    let numbers: Vec<i8> = numbers.iter().map(|byte| *byte as i8).collect();
    let scales = vector_from_bytes(scales);
    let errors = vector_from_bytes(errors);
    let dimensions = description.dimensions;
    let sketches = match description.format {
        FORMAT_WITHOUT_SKETCHES => Sketches::of(dimensions, &numbers, &scales, &errors),
        _ => Sketches::from_parts(
            dimensions,
            take(num_rows, Sketches::new(dimensions).row_len())?.to_vec(),
            vector_from_bytes(take(num_rows, 4)?),
            vector_from_bytes(take(num_rows, 4)?),
        )?,
    };
    let graph = description.graph.as_ref();
    let words = take(graph.map_or(0, |graph| graph.num_node_words), 8)?;
    let codes = Codes::from_parts(numbers, scales, errors, sketches)?;
    let chunk_ids = chunk_ids.as_chunks().0.iter();
    let runs = runs.as_chunks::<12>().0.iter().map(|bytes| {
        let number =
            |at| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Run {
            document_id: number(0),
            start: number(4),
            len: number(8),
            is_in_graph: false,
        }
    });
    let rows = VectorRows::from_parts(
        codes,
        chunk_ids.map(|bytes| i64::from_le_bytes(*bytes)).collect(),
        runs.collect(),
    )?;
    let words = words.as_chunks().0.iter();
    let nodes = IdSet::from_words(words.map(|bytes| u64::from_le_bytes(*bytes)).collect());
    Some((rows, nodes))
}

/// Hashes what passes through.
struct Hashing<W> {
    to: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

fn checksum(file: &mut File) -> std::io::Result<[u8; 32]> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
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
