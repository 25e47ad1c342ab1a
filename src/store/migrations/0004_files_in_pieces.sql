-- Large files come and go without a long transaction: a file that is completed from parts is made of them, and one that
-- is deleted is hidden first, and its bytes follow piece by piece.

ALTER TABLE files ADD COLUMN is_deleted INTEGER NOT NULL DEFAULT 0;
CREATE INDEX files_deleted ON files (row) WHERE is_deleted = 1;
DROP VIEW live_files;
-- What may be read: an expired file is gone from that second on, a deleted one at once, whenever its row goes.
CREATE VIEW live_files AS SELECT * FROM files WHERE is_deleted = 0 AND (expires_at IS NULL OR expires_at > unixepoch());

-- Where a part begins in the completed file, in segments; NULL while it is in none.
ALTER TABLE upload_parts ADD COLUMN first_segment INTEGER;

-- Parts of uploads that have ended otherwise, of deleted files, and those that a completed file was not made of.
CREATE VIEW dead_upload_parts AS
SELECT p.row FROM upload_parts p JOIN uploads u ON u.row = p.upload_row LEFT JOIN files f ON f.row = u.file_row
WHERE iif(f.row IS NULL, u.status = 'cancelled' OR u.expires_at <= unixepoch(),
          f.is_deleted = 1 OR p.first_segment IS NULL);
