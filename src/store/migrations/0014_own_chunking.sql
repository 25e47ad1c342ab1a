-- Whether a document was attached with a chunking of its own: it keeps it when that of its collection changes.
ALTER TABLE documents ADD COLUMN has_own_chunking INTEGER NOT NULL DEFAULT 0 CHECK (has_own_chunking IN (0, 1));
