-- Files attached together, files that come in parts, and what expires by itself.

ALTER TABLE files ADD COLUMN expires_at INTEGER;
CREATE INDEX files_by_expiry ON files (expires_at) WHERE expires_at IS NOT NULL;
-- What may be read: an expired file is gone from that second on, whenever its row is deleted.
CREATE VIEW live_files AS SELECT * FROM files WHERE expires_at IS NULL OR expires_at > unixepoch();

ALTER TABLE vector_stores ADD COLUMN expires_at INTEGER
    GENERATED ALWAYS AS (last_active_at + expires_after_days * 86400) VIRTUAL;

-- Files that were attached by one request. How far a batch is, its documents tell.
CREATE TABLE file_batches (
    row              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT    NOT NULL UNIQUE,
    vector_store_row INTEGER NOT NULL REFERENCES vector_stores (row) ON DELETE CASCADE,
    created_at       INTEGER NOT NULL,
    is_cancelled     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX file_batches_by_vector_store ON file_batches (vector_store_row);

CREATE TABLE file_batch_documents (
    batch_row   INTEGER NOT NULL REFERENCES file_batches (row) ON DELETE CASCADE,
    document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
    PRIMARY KEY (batch_row, document_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX file_batch_documents_by_document ON file_batch_documents (document_id);

-- A file that comes in parts. `num_bytes` is what was announced; `file_row` is there once it is completed.
CREATE TABLE uploads (
    row                        INTEGER PRIMARY KEY AUTOINCREMENT,
    id                         TEXT    NOT NULL UNIQUE,
    filename                   TEXT    NOT NULL,
    purpose                    TEXT    NOT NULL,
    media_type                 TEXT    NOT NULL,
    num_bytes                  INTEGER NOT NULL,
    file_expires_after_seconds INTEGER,
    created_at                 INTEGER NOT NULL,
    expires_at                 INTEGER NOT NULL,
    status                     TEXT    NOT NULL CHECK (status IN ('pending', 'completed', 'cancelled')),
    file_row                   INTEGER REFERENCES files (row) ON DELETE CASCADE
) STRICT;
CREATE INDEX uploads_by_file ON uploads (file_row);

CREATE TABLE upload_parts (
    row        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL UNIQUE,
    upload_row INTEGER NOT NULL REFERENCES uploads (row) ON DELETE CASCADE,
    num_bytes  INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX upload_parts_by_upload ON upload_parts (upload_row);

-- A part's bytes, as those of files.
CREATE TABLE upload_segments (
    part_row INTEGER NOT NULL REFERENCES upload_parts (row) ON DELETE CASCADE,
    ordinal  INTEGER NOT NULL,
    bytes    BLOB    NOT NULL,
    PRIMARY KEY (part_row, ordinal)
) STRICT;
