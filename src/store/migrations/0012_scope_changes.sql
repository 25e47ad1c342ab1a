-- "What a search may see of this document may have changed"; NULL: of any document. Whoever keeps the result of a scope's
-- query together with a position in this log knows whether it still holds. Triggers write it, so that no statement,
-- cascades included, can forget it. A table or column that scopes come to ask needs a trigger here.

CREATE TABLE scope_changes (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    nonce       INTEGER NOT NULL DEFAULT (random()),
    document_id INTEGER
) STRICT;
CREATE TRIGGER scope_changes_stay_few AFTER INSERT ON scope_changes BEGIN
    DELETE FROM scope_changes WHERE seq <= new.seq - 10000;
END;

-- A document that was not and is not completed is in no scope; ingestion notes its progress there all the time.
CREATE TRIGGER scope_sees_new_document AFTER INSERT ON documents WHEN new.status = 'completed' BEGIN
    INSERT INTO scope_changes (document_id) VALUES (new.id);
END;
CREATE TRIGGER scope_sees_changed_document AFTER UPDATE ON documents
WHEN old.status = 'completed' OR new.status = 'completed' BEGIN
    INSERT INTO scope_changes (document_id) VALUES (new.id);
END;
CREATE TRIGGER scope_loses_document AFTER DELETE ON documents WHEN old.status = 'completed' BEGIN
    INSERT INTO scope_changes (document_id) VALUES (old.id);
END;

-- Each use puts a vector store's expiry off; a result is asked for anew when the earlier one comes. All else counts.
CREATE TRIGGER scope_sees_changed_vector_store AFTER UPDATE ON vector_stores
WHEN old.id <> new.id OR old.expires_after_days IS NOT new.expires_after_days OR new.last_active_at < old.last_active_at BEGIN
    INSERT INTO scope_changes (document_id) VALUES (NULL);
END;
CREATE TRIGGER scope_loses_vector_store AFTER DELETE ON vector_stores BEGIN
    INSERT INTO scope_changes (document_id) VALUES (NULL);
END;

CREATE TRIGGER scope_sees_changed_file AFTER UPDATE OF id, expires_at, is_deleted ON files BEGIN
    INSERT INTO scope_changes (document_id) SELECT id FROM documents WHERE file_row = new.row AND status = 'completed';
END;
