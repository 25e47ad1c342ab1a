-- Everything that is remembered. What must stay in step with a row (full-text rows, the log of vector changes)
-- is kept there by triggers, so that no statement, cascades included, can forget it.

-- Uploaded originals. `row` orders listings: created_at alone has ties.
CREATE TABLE files (
    row        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL UNIQUE,
    filename   TEXT    NOT NULL,
    purpose    TEXT    NOT NULL,
    media_type TEXT    NOT NULL,
    num_bytes  INTEGER NOT NULL,
    sha256     TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- A file's bytes, in order, in pieces small enough to stream.
CREATE TABLE file_segments (
    file_row INTEGER NOT NULL REFERENCES files (row) ON DELETE CASCADE,
    ordinal  INTEGER NOT NULL,
    bytes    BLOB    NOT NULL,
    PRIMARY KEY (file_row, ordinal)
) STRICT;

-- The text of a file; chunk spans are byte offsets into `text`.
CREATE TABLE extractions (
    file_row          INTEGER PRIMARY KEY REFERENCES files (row) ON DELETE CASCADE,
    extractor_version TEXT NOT NULL,
    title             TEXT,
    layout            TEXT NOT NULL,
    text              TEXT NOT NULL
) STRICT;

CREATE TABLE vector_stores (
    row                INTEGER PRIMARY KEY AUTOINCREMENT,
    id                 TEXT    NOT NULL UNIQUE,
    name               TEXT    NOT NULL,
    description        TEXT,
    metadata           TEXT    NOT NULL,
    created_at         INTEGER NOT NULL,
    last_active_at     INTEGER NOT NULL,
    expires_after_days INTEGER,
    is_default         INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX only_one_default_vector_store ON vector_stores (is_default) WHERE is_default = 1;

-- A file's membership of a vector store. Ids are never reused: the vector index knows documents by them.
CREATE TABLE documents (
    id                   INTEGER PRIMARY KEY AUTOINCREMENT,
    vector_store_row     INTEGER NOT NULL REFERENCES vector_stores (row) ON DELETE CASCADE,
    file_row             INTEGER NOT NULL REFERENCES files (row) ON DELETE CASCADE,
    status               TEXT    NOT NULL CHECK (status IN ('in_progress', 'completed', 'cancelled', 'failed')),
    error_code           TEXT,
    error_message        TEXT,
    attributes           TEXT    NOT NULL,
    max_chunk_tokens     INTEGER NOT NULL,
    chunk_overlap_tokens INTEGER NOT NULL,
    created_at           INTEGER NOT NULL,
    embedder_hash        TEXT,
    num_chunks           INTEGER NOT NULL DEFAULT 0,
    usage_bytes          INTEGER NOT NULL DEFAULT 0,
    pages_read           INTEGER NOT NULL DEFAULT 0,
    pages_total          INTEGER NOT NULL DEFAULT 0,
    chunks_done          INTEGER NOT NULL DEFAULT 0,
    chunks_total         INTEGER NOT NULL DEFAULT 0,
    page_warnings        TEXT    NOT NULL DEFAULT '[]',
    UNIQUE (vector_store_row, file_row)
) STRICT;
CREATE INDEX documents_by_status ON documents (vector_store_row, status);
CREATE INDEX documents_by_file ON documents (file_row);

-- Work that is still to be done. `claim` counts every start and is a worker's proof that the job is still its own;
-- `attempt` counts the starts since something was last stored.
CREATE TABLE jobs (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    document_id INTEGER NOT NULL UNIQUE REFERENCES documents (id) ON DELETE CASCADE,
    state       TEXT    NOT NULL CHECK (state IN ('queued', 'running')),
    claim       INTEGER NOT NULL DEFAULT 0,
    attempt     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, id);

-- Never updated, only inserted and deleted. `vector` is little-endian f32 and stands last, where reading the text does not meet it.
CREATE TABLE chunks (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    document_id  INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    ordinal      INTEGER NOT NULL,
    span_start   INTEGER NOT NULL,
    span_end     INTEGER NOT NULL,
    page_first   INTEGER NOT NULL,
    page_last    INTEGER NOT NULL,
    num_tokens   INTEGER NOT NULL,
    heading_path TEXT    NOT NULL,
    text         TEXT    NOT NULL,
    vector       BLOB    NOT NULL,
    UNIQUE (document_id, ordinal)
) STRICT;

CREATE VIRTUAL TABLE chunks_fts USING fts5 (
    text,
    heading_path,
    content = 'chunks',
    content_rowid = 'id',
    tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER chunks_enter_fts AFTER INSERT ON chunks BEGIN
    INSERT INTO chunks_fts (rowid, text, heading_path) VALUES (new.id, new.text, new.heading_path);
END;
CREATE TRIGGER chunks_leave_fts AFTER DELETE ON chunks BEGIN
    INSERT INTO chunks_fts (chunks_fts, rowid, text, heading_path)
    VALUES ('delete', old.id, old.text, old.heading_path);
END;

-- "The searchable vectors of this document are not what they were." A vector index that has seen a position (seq and
-- its nonce, which tells one history from another after a backup is restored) catches up by reading what follows it.
CREATE TABLE vector_changes (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    nonce       INTEGER NOT NULL DEFAULT (random()),
    document_id INTEGER NOT NULL
) STRICT;
CREATE TRIGGER documents_change_visibility AFTER UPDATE OF status ON documents
WHEN (old.status = 'completed') <> (new.status = 'completed') BEGIN
    INSERT INTO vector_changes (document_id) VALUES (new.id);
END;
CREATE TRIGGER documents_leave AFTER DELETE ON documents WHEN old.status = 'completed' BEGIN
    INSERT INTO vector_changes (document_id) VALUES (old.id);
END;
CREATE TRIGGER vector_changes_stay_few AFTER INSERT ON vector_changes BEGIN
    DELETE FROM vector_changes WHERE seq <= new.seq - 10000;
END;

-- API responses, kept so that they can be fetched again and continued.
CREATE TABLE responses (
    id          TEXT    PRIMARY KEY,
    created_at  INTEGER NOT NULL,
    body        TEXT    NOT NULL,
    input       TEXT    NOT NULL,
    previous_id TEXT
) STRICT;
