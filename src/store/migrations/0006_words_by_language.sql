-- Words are compared as the language of their document has them. text_language, words_rowid and word_terms are functions
-- of the program (store/word_index.rs), on every connection.

ALTER TABLE documents ADD COLUMN language TEXT;
CREATE INDEX documents_by_language ON documents (language);

DROP TRIGGER chunks_enter_fts;
DROP TRIGGER chunks_leave_fts;
DROP TABLE chunks_fts;

-- Which terms are in which chunk, and how often: each term begins with a letter for that. A row's id tells its document
-- (from bit 37 on), its chunk (from bit 7 on) and how long the chunk is, so that searching looks nothing up.
CREATE VIRTUAL TABLE chunk_words USING fts5 (
    terms,
    content = '',
    contentless_delete = 1,
    detail = none,
    tokenize = 'ascii'
);

UPDATE documents SET language = text_language(coalesce(
    (SELECT text FROM extractions WHERE extractions.file_row = documents.file_row),
    (SELECT text FROM chunks WHERE chunks.document_id = documents.id ORDER BY ordinal LIMIT 1)))
WHERE id IN (SELECT document_id FROM chunks);
INSERT INTO chunk_words (rowid, terms)
SELECT words_rowid(d.id, c.id, c.text, c.heading_path), word_terms(c.text, c.heading_path, d.language)
FROM documents d CROSS JOIN chunks c ON c.document_id = d.id ORDER BY d.id, c.ordinal;

CREATE TABLE word_totals (
    id             INTEGER PRIMARY KEY CHECK (id = 1),
    num_chunks     INTEGER NOT NULL,
    length_classes INTEGER NOT NULL
) STRICT;
INSERT INTO word_totals SELECT 1, count(*), coalesce(sum(rowid & 127), 0) FROM chunk_words;

CREATE TRIGGER chunks_enter_words AFTER INSERT ON chunks BEGIN
    UPDATE documents SET language = text_language(coalesce(
        (SELECT text FROM extractions WHERE extractions.file_row = documents.file_row), new.text))
    WHERE id = new.document_id AND (language IS NULL OR new.ordinal = 0);
    INSERT INTO chunk_words (rowid, terms)
    SELECT words_rowid(id, new.id, new.text, new.heading_path), word_terms(new.text, new.heading_path, language)
    FROM documents WHERE id = new.document_id;
    UPDATE word_totals SET
        num_chunks = num_chunks + 1,
        length_classes = length_classes + (words_rowid(new.document_id, new.id, new.text, new.heading_path) & 127);
END;
CREATE TRIGGER chunks_leave_words AFTER DELETE ON chunks BEGIN
    UPDATE word_totals SET
        num_chunks = num_chunks - 1,
        length_classes = length_classes - coalesce(
            (SELECT rowid & 127 FROM chunk_words
             WHERE rowid BETWEEN (old.document_id << 37) | (old.id << 7) AND (old.document_id << 37) | (old.id << 7) | 127),
            0);
    DELETE FROM chunk_words
    WHERE rowid BETWEEN (old.document_id << 37) | (old.id << 7) AND (old.document_id << 37) | (old.id << 7) | 127;
END;
