-- Documents that come from elsewhere and are kept in step with it, and the imports that fetch them.

-- A web page or a watched file, by its address. `file_row` answers; `next_file_row` is its newer version, or its first
-- one, and takes over when it has been read. A file that somebody deleted leaves its source behind, so that a watched
-- folder does not bring it back unchanged.
CREATE TABLE sources (
    row              INTEGER PRIMARY KEY AUTOINCREMENT,
    vector_store_row INTEGER NOT NULL REFERENCES vector_stores (row) ON DELETE CASCADE,
    kind             TEXT    NOT NULL CHECK (kind IN ('web', 'folder')),
    -- The watched folder; empty for the web.
    root             TEXT    NOT NULL,
    address          TEXT    NOT NULL,
    -- How a change is told: validators of an answer, or size and time of a file.
    version          TEXT    NOT NULL,
    sha256           TEXT    NOT NULL,
    file_row         INTEGER REFERENCES files (row) ON DELETE SET NULL,
    next_file_row    INTEGER REFERENCES files (row) ON DELETE SET NULL,
    UNIQUE (vector_store_row, kind, root, address)
) STRICT;
CREATE INDEX sources_by_file ON sources (file_row);
CREATE INDEX sources_by_next_file ON sources (next_file_row);

-- In the transaction that completes the new version the old one stops to answer. Its file stays where somebody else
-- uses it.
CREATE TRIGGER sources_take_over AFTER UPDATE OF status ON documents
WHEN new.status = 'completed' AND old.status <> 'completed'
     AND EXISTS (SELECT 1 FROM sources WHERE next_file_row = new.file_row AND vector_store_row = new.vector_store_row)
BEGIN
    DELETE FROM documents WHERE vector_store_row = new.vector_store_row AND file_row IN
        (SELECT file_row FROM sources WHERE next_file_row = new.file_row AND vector_store_row = new.vector_store_row);
    UPDATE files SET is_deleted = 1 WHERE row IN
        (SELECT file_row FROM sources WHERE next_file_row = new.file_row AND vector_store_row = new.vector_store_row)
        AND NOT EXISTS (SELECT 1 FROM documents WHERE file_row = files.row);
    DELETE FROM extractions WHERE file_row IN (SELECT row FROM files WHERE is_deleted = 1);
    UPDATE sources SET file_row = next_file_row, next_file_row = NULL
    WHERE next_file_row = new.file_row AND vector_store_row = new.vector_store_row;
END;

CREATE TABLE imports (
    row              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT    NOT NULL UNIQUE,
    vector_store_row INTEGER NOT NULL REFERENCES vector_stores (row) ON DELETE CASCADE,
    request          TEXT    NOT NULL,
    status           TEXT    NOT NULL CHECK (status IN ('queued', 'in_progress', 'completed', 'failed', 'cancelled')),
    error            TEXT,
    -- The process that works on it.
    owner            TEXT,
    created_at       INTEGER NOT NULL,
    finished_at      INTEGER,
    num_fetched      INTEGER NOT NULL DEFAULT 0,
    num_bytes        INTEGER NOT NULL DEFAULT 0,
    -- Links for which there was no room.
    num_dropped      INTEGER NOT NULL DEFAULT 0
) STRICT;

-- What an import has found, in the order in which it is visited; without an outcome until it was.
CREATE TABLE import_pages (
    row        INTEGER PRIMARY KEY AUTOINCREMENT,
    import_row INTEGER NOT NULL REFERENCES imports (row) ON DELETE CASCADE,
    url        TEXT    NOT NULL,
    depth      INTEGER NOT NULL,
    outcome    TEXT CHECK (outcome IN ('imported', 'unchanged', 'skipped', 'failed', 'gone', 'removed')),
    reason     TEXT,
    message    TEXT,
    -- The address that the page has in the end: behind redirects, or its canonical one.
    address    TEXT,
    title      TEXT,
    sha256     TEXT,
    file_row   INTEGER REFERENCES files (row) ON DELETE SET NULL,
    UNIQUE (import_row, url)
) STRICT;
CREATE INDEX import_pages_by_outcome ON import_pages (import_row, outcome, row);
CREATE INDEX import_pages_by_address ON import_pages (import_row, address);
CREATE INDEX import_pages_by_content ON import_pages (import_row, sha256);
CREATE INDEX import_pages_by_file ON import_pages (file_row);
