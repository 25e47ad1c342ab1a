//! Vectors to measure with, and a data folder that holds them.
//!
//! Those like texts': topics lie around a common mean in a space of few dimensions whose axes matter less and less;
//! documents lie around a topic, chunks around their document, and a little of everything is noise in all 384 dimensions.
//! The constants were chosen so that neighbours are as similar, and as many are nearly as similar, as those of sentences
//! embedded with all-MiniLM-L6-v2; docs/performance.md compares the two.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use inglenook::kernels::vector::{dot, widest};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rusqlite::functions::FunctionFlags;
use rusqlite::{Connection, params};

use crate::Result;

pub const DIMENSIONS: usize = 384;
pub const CHUNKS_PER_DOCUMENT: usize = 10;
/// Parts of the space, by rank along its longest axis.
pub const REGIONS: i64 = 1_000;
const NUM_QUERIES: usize = 400;
/// Documents beyond those that the data folder begins with, to be added later.
const EXTRA_PERCENT: usize = 30;

/// Of the space that texts lie in.
const LATENT: usize = 128;
const DECAY: f32 = 0.35;
const DOCUMENTS_PER_TOPIC: usize = 40;
const MEAN: f32 = 0.25;
const TOPIC_SPREAD: f32 = 0.70;
const DOCUMENT_SPREAD: f32 = 0.55;
const CHUNK_SPREAD: f32 = 0.55;
const NOISE: f32 = 0.25;

pub struct Collection {
    file: std::path::PathBuf,
    num_vectors: usize,
    pub queries: Vec<Vec<f32>>,
    /// Of each document, the added ones too, and of each query.
    pub regions: Vec<i64>,
    pub query_regions: Vec<i64>,
}

impl Collection {
    pub fn open(folder: &Path) -> Result<Self> {
        let file = folder.join("vectors.f32");
        let num_bytes = std::fs::metadata(&file)?.len() as usize;
        let queries = read(&folder.join("queries.f32"))?;
        let mut collection = Self {
            file,
            num_vectors: num_bytes / 4 / DIMENSIONS,
            queries: queries.chunks(DIMENSIONS).map(<[f32]>::to_vec).collect(),
            regions: Vec::new(),
            query_regions: Vec::new(),
        };
        collection.find_regions()?;
        Ok(collection)
    }

    fn num_all_documents(&self) -> usize {
        self.num_vectors / CHUNKS_PER_DOCUMENT
    }

    pub fn num_extra_documents(&self) -> usize {
        self.num_all_documents() * EXTRA_PERCENT / (100 + EXTRA_PERCENT)
    }

    pub fn num_documents(&self) -> usize {
        self.num_all_documents() - self.num_extra_documents()
    }

    /// A number from 0 to 999 that has nothing to do with what the document says.
    pub fn share(&self, document: usize) -> i64 {
        let mixed = (document as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 33) as i64 % 1_000
    }

    /// The vectors of each of the documents.
    pub fn documents(&self, range: Range<usize>) -> Result<impl Iterator<Item = Vec<f32>>> {
        let document_bytes = CHUNKS_PER_DOCUMENT * DIMENSIONS * 4;
        let mut file = BufReader::with_capacity(1 << 20, File::open(&self.file)?);
        file.seek(SeekFrom::Start((range.start * document_bytes) as u64))?;
        Ok(range.map_while(move |_| {
            let mut bytes = vec![0; document_bytes];
            file.read_exact(&mut bytes).ok()?;
            Some(floats(&bytes))
        }))
    }

    /// Ranks documents and queries along the axis on which they differ most.
    fn find_regions(&mut self) -> Result<()> {
        let mean_of = |vectors: Vec<f32>| {
            let mut mean = vec![0.0; DIMENSIONS];
            for vector in vectors.chunks(DIMENSIONS) {
                mean.iter_mut()
                    .zip(vector)
                    .for_each(|(sum, value)| *sum += value);
            }
            mean
        };
        let sample: Vec<Vec<f32>> = self
            .documents(0..self.num_all_documents().min(2_000))?
            .map(mean_of)
            .collect();
        let centre = mean_of(sample.concat());
        let count = sample.len() as f32;
        let centred: Vec<Vec<f32>> = sample
            .iter()
            .map(|vector| {
                vector
                    .iter()
                    .zip(&centre)
                    .map(|(v, c)| v - c / count)
                    .collect()
            })
            .collect();
        let mut axis = centred[0].clone();
        for _ in 0..30 {
            let mut next = vec![0.0; DIMENSIONS];
            for vector in &centred {
                let along = widest(|| dot(vector, &axis));
                next.iter_mut()
                    .zip(vector)
                    .for_each(|(sum, value)| *sum += along * value);
            }
            axis = unit(&next);
        }
        let chunks = CHUNKS_PER_DOCUMENT as f32;
        let along: Vec<f32> = self
            .documents(0..self.num_all_documents())?
            .map(|vectors| widest(|| dot(&mean_of(vectors), &axis)) / chunks)
            .collect();
        let mut sorted = along.clone();
        sorted.sort_by(f32::total_cmp);
        let rank = |along: &f32| {
            let below = sorted.partition_point(|other| other < along);
            (below as i64 * REGIONS / sorted.len() as i64).min(REGIONS - 1)
        };
        self.regions = along.iter().map(rank).collect();
        let queries = self.queries.iter();
        self.query_regions = queries
            .map(|query| rank(&widest(|| dot(query, &axis))))
            .collect();
        Ok(())
    }
}

/// Writes vectors and queries into the folder.
pub fn make(folder: &Path, count: usize, kind: &str) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let num_documents = count / CHUNKS_PER_DOCUMENT;
    let num_all = num_documents + num_documents * EXTRA_PERCENT / 100;
    let mut rng = ChaCha8Rng::seed_from_u64(384);
    if !matches!(kind, "texts" | "random") {
        let vectors = read(Path::new(kind))?;
        let num_numbers = num_all * CHUNKS_PER_DOCUMENT * DIMENSIONS;
        let (vectors, queries) = vectors
            .split_at_checked(num_numbers)
            .filter(|(_, rest)| rest.len() >= NUM_QUERIES * DIMENSIONS)
            .ok_or("the file has too few vectors")?;
        write(
            &folder.join("queries.f32"),
            &queries[..NUM_QUERIES * DIMENSIONS],
        )?;
        return write(&folder.join("vectors.f32"), vectors);
    }
    let space = Space::new(&mut rng, num_all.div_ceil(DOCUMENTS_PER_TOPIC));
    let random = |rng: &mut ChaCha8Rng| unit(&normals::<DIMENSIONS>(rng));
    let mut file = BufWriter::new(File::create(folder.join("vectors.f32"))?);
    for _ in 0..num_all {
        let document = space.document(&mut rng);
        for _ in 0..CHUNKS_PER_DOCUMENT {
            let vector = match kind {
                "random" => random(&mut rng),
                _ => space.chunk(&mut rng, &document),
            };
            file.write_all(&bytes(&vector))?;
        }
    }
    file.flush()?;
    let mut queries = Vec::new();
    for _ in 0..NUM_QUERIES {
        queries.extend(match kind {
            "random" => random(&mut rng),
            _ => {
                let document = space.document(&mut rng);
                space.chunk(&mut rng, &document)
            }
        });
    }
    write(&folder.join("queries.f32"), &queries)
}

struct Space {
    mean: Vec<f32>,
    /// A direction of the 384 dimensions for each latent one.
    axes: Vec<Vec<f32>>,
    scales: Vec<f32>,
    topics: Vec<[f32; LATENT]>,
}

impl Space {
    fn new(rng: &mut ChaCha8Rng, num_topics: usize) -> Self {
        let weights: Vec<f32> = (0..LATENT).map(|i| (i as f32 + 1.0).powf(-DECAY)).collect();
        let length = weights
            .iter()
            .map(|weight| weight * weight)
            .sum::<f32>()
            .sqrt();
        let mut space = Self {
            mean: unit(&normals::<DIMENSIONS>(rng))
                .iter()
                .map(|v| v * MEAN)
                .collect(),
            axes: (0..LATENT)
                .map(|_| unit(&normals::<DIMENSIONS>(rng)))
                .collect(),
            scales: weights.iter().map(|weight| weight / length).collect(),
            topics: Vec::new(),
        };
        space.topics = (0..num_topics)
            .map(|_| space.around(rng, &[0.0; LATENT], TOPIC_SPREAD))
            .collect();
        space
    }

    fn around(&self, rng: &mut ChaCha8Rng, centre: &[f32; LATENT], spread: f32) -> [f32; LATENT] {
        let mut point = normals::<LATENT>(rng);
        for ((value, scale), centre) in point.iter_mut().zip(&self.scales).zip(centre) {
            *value = centre + *value * scale * spread;
        }
        point
    }

    fn document(&self, rng: &mut ChaCha8Rng) -> [f32; LATENT] {
        let topic = rng.random_range(0..self.topics.len());
        self.around(rng, &self.topics[topic], DOCUMENT_SPREAD)
    }

    fn chunk(&self, rng: &mut ChaCha8Rng, document: &[f32; LATENT]) -> Vec<f32> {
        let latent = self.around(rng, document, CHUNK_SPREAD);
        let noise = normals::<DIMENSIONS>(rng);
        let scale = NOISE / (DIMENSIONS as f32).sqrt();
        let mut vector: Vec<f32> = self.mean.clone();
        for (value, noise) in vector.iter_mut().zip(noise) {
            *value += noise * scale;
        }
        widest(|| {
            for (axis, along) in self.axes.iter().zip(latent) {
                vector
                    .iter_mut()
                    .zip(axis)
                    .for_each(|(value, axis)| *value += along * axis);
            }
        });
        unit(&vector)
    }
}

/// Box and Muller's.
fn normals<const N: usize>(rng: &mut ChaCha8Rng) -> [f32; N] {
    let mut numbers = [0.0; N];
    for pair in numbers.chunks_mut(2) {
        let length = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
        let (sin, cos) = (std::f32::consts::TAU * rng.random::<f32>()).sin_cos();
        pair[0] = length * cos;
        if let Some(second) = pair.get_mut(1) {
            *second = length * sin;
        }
    }
    numbers
}

/// Puts completed documents into the data folder, many in one transaction; nobody else has it open for writing.
pub fn fill(data: &Path, collection: &Collection, documents: Range<usize>) -> Result<()> {
    let mut db = connect(data)?;
    let tx = db.transaction()?;
    tx.execute(
        "INSERT OR IGNORE INTO vector_stores (row, id, name, metadata, created_at, last_active_at)
         VALUES (1, 'vs_measured', 'measured', '{}', unixepoch(), unixepoch())",
        [],
    )?;
    for (document, vectors) in documents.clone().zip(collection.documents(documents)?) {
        let id = document as i64 + 1;
        tx.prepare_cached(
            "INSERT INTO files (row, id, filename, purpose, media_type, num_bytes, sha256, created_at)
             VALUES (?1, 'file-' || ?1, 'f.txt', 'assistants', 'text/plain', 0, '', unixepoch())",
        )?
        .execute([id])?;
        let attributes = format!(
            r#"{{"share":{},"region":{}}}"#,
            collection.share(document),
            collection.regions[document]
        );
        tx.prepare_cached(
            "INSERT INTO documents (id, vector_store_row, file_row, status, attributes, max_chunk_tokens,
                                    chunk_overlap_tokens, created_at, embedder_hash, num_chunks)
             VALUES (?1, 1, ?1, 'in_progress', ?2, 256, 0, unixepoch(), 'measured', ?3)",
        )?
        .execute(params![id, attributes, CHUNKS_PER_DOCUMENT as i64])?;
        for (ordinal, vector) in vectors.chunks(DIMENSIONS).enumerate() {
            tx.prepare_cached(
                "INSERT INTO chunks (id, document_id, ordinal, span_start, span_end, page_first, page_last, num_tokens,
                                     heading_path, text, vector)
                 VALUES (?1, ?2, ?3, 0, 1, 1, 1, 1, '[]', 'word', ?4)",
            )?
            .execute(params![
                (document * CHUNKS_PER_DOCUMENT + ordinal) as i64 + 1,
                id,
                ordinal as i64,
                bytes(vector)
            ])?;
        }
        tx.prepare_cached("UPDATE documents SET status = 'completed' WHERE id = ?")?
            .execute([id])?;
    }
    Ok(tx.commit()?)
}

fn connect(data: &Path) -> Result<Connection> {
    let db = Connection::open(data.join("inglenook.db"))?;
    db.execute_batch(
        "PRAGMA synchronous = OFF; PRAGMA foreign_keys = ON; PRAGMA cache_size = -200000",
    )?;
    // What the store's triggers call to index words; every chunk here has the same one.
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_INNOCUOUS;
    db.create_scalar_function("text_language", 1, flags, |_| Ok("en"))?;
    db.create_scalar_function("words_rowid", 4, flags, |context| {
        Ok(context.get::<i64>(0)? << 37 | context.get::<i64>(1)? << 7)
    })?;
    db.create_scalar_function("word_terms", 3, flags, |_| Ok("bword "))?;
    Ok(db)
}

pub fn delete(data: &Path, documents: &[usize]) -> Result<()> {
    let mut db = connect(data)?;
    let tx = db.transaction()?;
    for document in documents {
        tx.prepare_cached("DELETE FROM documents WHERE id = ?")?
            .execute([*document as i64 + 1])?;
    }
    Ok(tx.commit()?)
}

/// The id of the vector store that holds them.
pub fn vector_store(data: &Path) -> Result<String> {
    let db = Connection::open(data.join("inglenook.db"))?;
    Ok(db.query_row("SELECT id FROM vector_stores", [], |row| row.get(0))?)
}

pub fn read(file: &Path) -> Result<Vec<f32>> {
    Ok(floats(&std::fs::read(file)?))
}

pub fn write(file: &Path, numbers: &[f32]) -> Result<()> {
    Ok(std::fs::write(file, bytes(numbers))?)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let numbers = bytes.as_chunks::<4>().0.iter();
    numbers.map(|number| f32::from_le_bytes(*number)).collect()
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect()
}

fn unit(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    vector.iter().map(|value| value / length).collect()
}
