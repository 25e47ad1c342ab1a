-- A file that the command line ingests is a source of its own kind, known by its path. The check on `kind` can only be
-- changed by making the table anew.

DROP TRIGGER sources_take_over;
DROP INDEX sources_by_file;
DROP INDEX sources_by_next_file;
ALTER TABLE sources RENAME TO earlier_sources;

CREATE TABLE sources (
    row              INTEGER PRIMARY KEY AUTOINCREMENT,
    vector_store_row INTEGER NOT NULL REFERENCES vector_stores (row) ON DELETE CASCADE,
    kind             TEXT    NOT NULL CHECK (kind IN ('web', 'folder', 'ingested')),
    -- The watched folder; empty for the others.
    root             TEXT    NOT NULL,
    address          TEXT    NOT NULL,
    -- How a change is told: validators of an answer, or size and time of a file; empty where its bytes are compared.
    version          TEXT    NOT NULL,
    sha256           TEXT    NOT NULL,
    file_row         INTEGER REFERENCES files (row) ON DELETE SET NULL,
    next_file_row    INTEGER REFERENCES files (row) ON DELETE SET NULL,
    UNIQUE (vector_store_row, kind, root, address)
) STRICT;
INSERT INTO sources SELECT * FROM earlier_sources;
DROP TABLE earlier_sources;
CREATE INDEX sources_by_file ON sources (file_row);
CREATE INDEX sources_by_next_file ON sources (next_file_row);

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
