-- AUTOINCREMENT: without it the numbers would begin again after pruning, and readers by cursor would skip events.
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id BLOB NOT NULL UNIQUE,
    tenant_id BLOB NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    payload BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    published_at BIGINT,
    stream_epoch BIGINT,
    stream_seq BIGINT,
    tries INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX outbox_unpublished ON outbox (seq) WHERE published_at IS NULL;
CREATE INDEX outbox_stream ON outbox (stream_epoch, stream_seq);
