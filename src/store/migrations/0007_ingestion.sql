-- How long a document still takes, which documents take the place of older ones, and how the same content is found again.

-- NULL while it is not known.
ALTER TABLE documents ADD COLUMN seconds_left INTEGER;
-- Once such a document is completed, older ones of the same file name in its vector store go.
ALTER TABLE documents ADD COLUMN replaces_older INTEGER NOT NULL DEFAULT 0;
CREATE INDEX files_by_content ON files (sha256);
CREATE INDEX files_by_name ON files (filename);
