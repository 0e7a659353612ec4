-- xid: whoever reads by cursor takes only rows of transactions that are older than every running one, because
-- sequence numbers are given out before commit.
CREATE TABLE outbox (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id UUID NOT NULL UNIQUE,
    tenant_id UUID NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    payload BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    published_at BIGINT,
    stream_epoch BIGINT,
    stream_seq BIGINT,
    tries INTEGER NOT NULL DEFAULT 0,
    xid XID8 NOT NULL DEFAULT pg_current_xact_id()
);

CREATE INDEX outbox_unpublished ON outbox (seq) WHERE published_at IS NULL;
CREATE INDEX outbox_stream ON outbox (stream_epoch, stream_seq);
