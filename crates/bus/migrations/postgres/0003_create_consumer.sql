-- How far a consumer of this service has read the outbox of a source. Moved in the transaction of the effects.
-- last_xid: 0 on SQLite, where numbers are given out in the order of commits.
CREATE TABLE consumer_cursor (
    consumer TEXT NOT NULL,
    source TEXT NOT NULL,
    last_xid BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    moved_at BIGINT NOT NULL,
    PRIMARY KEY (consumer, source)
);

-- Events that a consumer could not take yet, or that somebody sends to it again.
CREATE TABLE consumer_retry (
    consumer TEXT NOT NULL,
    event_id UUID NOT NULL,
    payload BYTEA NOT NULL,
    n_deliveries BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    error TEXT NOT NULL,
    PRIMARY KEY (consumer, event_id)
);

CREATE INDEX consumer_retry_next ON consumer_retry (consumer, next_at);

-- What was given up. ref: the id of the event.
CREATE TABLE dead_letter (
    id UUID NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    ref TEXT NOT NULL,
    consumer TEXT NOT NULL DEFAULT '',
    tenant_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    payload BYTEA NOT NULL,
    error TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    count BIGINT NOT NULL,
    redriven_at BIGINT,
    UNIQUE (kind, ref, consumer)
);

-- How far the consumers of other services have read this outbox: what they have not seen is not pruned.
CREATE TABLE outbox_reader (
    consumer TEXT NOT NULL PRIMARY KEY,
    last_xid BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    moved_at BIGINT NOT NULL
);

CREATE INDEX outbox_commit_order ON outbox (xid, seq);
