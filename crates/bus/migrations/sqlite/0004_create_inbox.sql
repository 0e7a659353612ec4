-- Events that a consumer has taken from a stream, as on Postgres, where streams are used: a database can be moved there.
CREATE TABLE inbox (
    consumer TEXT NOT NULL,
    event_id BLOB NOT NULL,
    PRIMARY KEY (consumer, event_id)
);
