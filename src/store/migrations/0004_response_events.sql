-- The events of responses that are streamed from the background, as they are sent, one after the other: a client that was
-- cut off reads them again. NULL until the response has ended, or where its events were lost with the process.

CREATE TABLE response_events (
    response_id TEXT PRIMARY KEY REFERENCES responses (id) ON DELETE CASCADE,
    events      TEXT
) STRICT;
