-- What opens an encrypted document, from when it is attached until it is read.
CREATE TABLE document_passwords (
    document_id INTEGER PRIMARY KEY REFERENCES documents (id) ON DELETE CASCADE,
    password    TEXT NOT NULL
) STRICT;
