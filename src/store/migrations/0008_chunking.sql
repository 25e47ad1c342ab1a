-- How a collection's documents are cut, and cutting and embedding them anew while what is there goes on answering.

-- NULL: as the server's settings say.
ALTER TABLE vector_stores ADD COLUMN max_chunk_tokens INTEGER;
ALTER TABLE vector_stores ADD COLUMN chunk_overlap_tokens INTEGER;

-- Which version of the chunker cut a document; 0 is older than the versions.
ALTER TABLE documents ADD COLUMN chunker_version INTEGER NOT NULL DEFAULT 0;

-- The models that have embedded documents, so that one can be loaded again to search what it made.
CREATE TABLE embedders (
    hash       TEXT    PRIMARY KEY,
    name       TEXT    NOT NULL,
    dimensions INTEGER NOT NULL
) STRICT;

-- Completed documents that are to be cut and embedded anew. `claim` and `attempt` are as those of jobs; the last four
-- columns say what the pending chunks were made with. What has ended stays until the next run, to be counted.
CREATE TABLE reindexes (
    document_id          INTEGER PRIMARY KEY REFERENCES documents (id) ON DELETE CASCADE,
    state                TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    claim                INTEGER NOT NULL DEFAULT 0,
    attempt              INTEGER NOT NULL DEFAULT 0,
    error_message        TEXT,
    max_chunk_tokens     INTEGER NOT NULL,
    chunk_overlap_tokens INTEGER NOT NULL,
    chunks_total         INTEGER NOT NULL DEFAULT 0,
    chunks_done          INTEGER NOT NULL DEFAULT 0,
    usage_bytes          INTEGER NOT NULL DEFAULT 0,
    embedder_hash        TEXT,
    chunker_version      INTEGER
) STRICT;
CREATE INDEX reindexes_by_state ON reindexes (state, document_id);

-- As `chunks`; no search sees them.
CREATE TABLE pending_chunks (
    document_id  INTEGER NOT NULL REFERENCES reindexes (document_id) ON DELETE CASCADE,
    ordinal      INTEGER NOT NULL,
    span_start   INTEGER NOT NULL,
    span_end     INTEGER NOT NULL,
    page_first   INTEGER NOT NULL,
    page_last    INTEGER NOT NULL,
    num_tokens   INTEGER NOT NULL,
    heading_path TEXT    NOT NULL,
    text         TEXT    NOT NULL,
    vector       BLOB    NOT NULL,
    PRIMARY KEY (document_id, ordinal)
) STRICT;
