-- What the API remembers between requests: conversations, the items of responses one by one, who works on a response
-- that is not finished, and chat completions.

CREATE TABLE conversations (
    row        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    metadata   TEXT    NOT NULL
) STRICT;

-- Items in their order, each of one conversation or of one response. `read_as` is what the model reads where that
-- differs from what is shown: the text of a file, say. An id may stand in several places, but once in each.
CREATE TABLE items (
    row              INTEGER PRIMARY KEY AUTOINCREMENT,
    id               TEXT    NOT NULL,
    conversation_row INTEGER REFERENCES conversations (row) ON DELETE CASCADE,
    response_id      TEXT    REFERENCES responses (id) ON DELETE CASCADE,
    is_input         INTEGER NOT NULL,
    body             TEXT    NOT NULL,
    read_as          TEXT,
    CHECK ((conversation_row IS NULL) <> (response_id IS NULL)),
    UNIQUE (conversation_row, id),
    UNIQUE (response_id, id)
) STRICT;
CREATE INDEX items_by_id ON items (id);

-- The process that works on a response; NULL once it has ended.
ALTER TABLE responses ADD COLUMN owner TEXT;

-- Chat completions that were asked to be kept, with the messages that they answer.
CREATE TABLE chat_completions (
    row      INTEGER PRIMARY KEY AUTOINCREMENT,
    id       TEXT    NOT NULL UNIQUE,
    model    TEXT    NOT NULL,
    metadata TEXT    NOT NULL,
    body     TEXT    NOT NULL,
    messages TEXT    NOT NULL
) STRICT;
