//! What was computed for one file serves another of the same content: its text, its chunks and their vectors are copied,
//! so that deleting either leaves the other.

use rusqlite::{OptionalExtension, Transaction, params};

use super::Store;
use super::error::Result;
use super::extractions::Extraction;
use super::files::file_row;
use super::jobs::{Job, num_chunks, owned_document};

/// A completed document with the same content, text and chunking, embedded by the same model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twin {
    document_id: i64,
    pub num_chunks: u32,
}

impl Store {
    /// The text of another file that has the same bytes, and a name that lets them be read in the same way.
    pub async fn extraction_of_same_content(
        &self,
        file_id: &str,
        extractor_version: &str,
    ) -> Result<Option<Extraction>> {
        let (file_id, extractor_version) = (file_id.to_owned(), extractor_version.to_owned());
        let read = move |tx: &Transaction| {
            let file = file_row(tx, &file_id)?;
            let sql = "SELECT o.row, o.filename, f.filename
                       FROM files f JOIN live_files o ON o.sha256 = f.sha256 AND o.row <> f.row
                            JOIN extractions e ON e.file_row = o.row
                       WHERE f.row = ? AND f.sha256 <> '' AND e.extractor_version = ?";
            let mut statement = tx.prepare_cached(sql)?;
            let mut rows = statement.query(params![file, extractor_version])?;
            while let Some(row) = rows.next()? {
                let (other, name, wanted): (i64, String, String) =
                    (row.get(0)?, row.get(1)?, row.get(2)?);
                if extension(&name) == extension(&wanted) {
                    return Extraction::of_file(tx, other);
                }
            }
            Ok(None)
        };
        self.database().read(read).await
    }

    /// A document whose chunks a job, whose file has been read, would compute again.
    pub async fn twin(&self, job: &Job) -> Result<Option<Twin>> {
        let job = job.clone();
        let read = move |tx: &Transaction| {
            let sql = "SELECT o.id, o.num_chunks
                       FROM documents d JOIN files f ON f.row = d.file_row JOIN extractions e ON e.file_row = f.row
                            JOIN live_files g ON g.sha256 = f.sha256 JOIN documents o ON o.file_row = g.row
                            JOIN extractions x ON x.file_row = g.row
                       WHERE d.id = ? AND o.id <> d.id AND f.sha256 <> '' AND o.status = 'completed'
                             AND o.embedder_hash = d.embedder_hash AND o.max_chunk_tokens = d.max_chunk_tokens
                             AND o.chunk_overlap_tokens = d.chunk_overlap_tokens
                             AND o.chunker_version = d.chunker_version
                             AND x.extractor_version = e.extractor_version AND x.title IS e.title
                             AND x.layout = e.layout AND x.text = e.text
                       LIMIT 1";
            let mut statement = tx.prepare_cached(sql)?;
            let found = statement.query_row([owned_document(tx, &job)?], |row| {
                Ok(Twin {
                    document_id: row.get(0)?,
                    num_chunks: row.get(1)?,
                })
            });
            Ok(found.optional()?)
        };
        self.database().read(read).await
    }

    /// Copies at most `limit` of the twin's chunks that the job's document lacks, and says how many it has then. The
    /// number does not grow when the twin has gone.
    pub async fn copy_chunks(&self, job: &Job, twin: Twin, limit: u32) -> Result<u32> {
        let job = job.clone();
        self.database()
            .write_lazily(move |tx| copy(tx, &job, twin, limit))
            .await
    }

    /// Takes the chunks away that a job has stored so far.
    pub async fn discard_chunks(&self, job: &Job) -> Result<()> {
        let job = job.clone();
        self.database()
            .write_lazily(move |tx| super::jobs::clear_chunks(tx, owned_document(tx, &job)?))
            .await
    }
}

fn copy(tx: &Transaction, job: &Job, twin: Twin, limit: u32) -> Result<u32> {
    let document_id = owned_document(tx, job)?;
    let first = num_chunks(tx, document_id)?;
    tx.prepare_cached(
        "INSERT INTO chunks (document_id, ordinal, span_start, span_end, page_first, page_last, num_tokens, heading_path,
                             text, vector)
         SELECT ?1, c.ordinal, c.span_start, c.span_end, c.page_first, c.page_last, c.num_tokens, c.heading_path, c.text,
                c.vector
         FROM chunks c JOIN documents o ON o.id = c.document_id
         WHERE o.id = ?2 AND o.status = 'completed' AND c.ordinal >= ?3 AND c.ordinal < ?4 ORDER BY c.ordinal",
    )?
    .execute(params![document_id, twin.document_id, first, first + limit])?;
    tx.prepare_cached(
        "UPDATE documents SET (num_chunks, chunks_done, usage_bytes) =
             (SELECT num_chunks + count(*), num_chunks + count(*),
                     usage_bytes + coalesce(sum(octet_length(text) + octet_length(vector)), 0)
              FROM chunks WHERE document_id = ?1 AND ordinal >= ?2)
         WHERE id = ?1",
    )?
    .execute(params![document_id, first])?;
    tx.prepare_cached("UPDATE jobs SET attempt = 0 WHERE id = ?")?
        .execute([job.id])?;
    num_chunks(tx, document_id)
}

/// What decides, with the content, how a file is read.
fn extension(filename: &str) -> String {
    let name = filename.rsplit(['/', '\\']).next().unwrap_or(filename);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    extension.to_ascii_lowercase()
}
