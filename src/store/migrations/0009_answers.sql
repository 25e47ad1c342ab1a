-- What answering remembers: summaries of passages, and the version of what can be found.

-- `key` stands for the text, the model and the instructions that a summary depends on.
CREATE TABLE passage_summaries (
    chunk_id INTEGER NOT NULL REFERENCES chunks (id) ON DELETE CASCADE,
    key      TEXT    NOT NULL,
    text     TEXT    NOT NULL,
    PRIMARY KEY (chunk_id, key)
) STRICT;
CREATE INDEX passage_summaries_by_key ON passage_summaries (key);

-- One number, moved by whatever changes what a search finds, or how it is shown.
CREATE TABLE index_version (
    row     INTEGER PRIMARY KEY CHECK (row = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO index_version VALUES (1, 0);
CREATE TRIGGER index_version_by_vectors AFTER INSERT ON vector_changes BEGIN
    UPDATE index_version SET version = version + 1;
END;
CREATE TRIGGER index_version_by_attributes AFTER UPDATE OF attributes, embedder_hash ON documents
WHEN old.attributes <> new.attributes OR old.embedder_hash IS NOT new.embedder_hash BEGIN
    UPDATE index_version SET version = version + 1;
END;
CREATE TRIGGER index_version_by_names AFTER UPDATE OF filename, expires_at ON files
WHEN old.filename <> new.filename OR old.expires_at IS NOT new.expires_at BEGIN
    UPDATE index_version SET version = version + 1;
END;
CREATE TRIGGER index_version_by_expiry AFTER UPDATE OF expires_after_days ON vector_stores
WHEN old.expires_after_days IS NOT new.expires_after_days BEGIN
    UPDATE index_version SET version = version + 1;
END;
