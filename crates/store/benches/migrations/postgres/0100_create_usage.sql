CREATE TABLE ai_request (
    id UUID NOT NULL PRIMARY KEY, tenant_id UUID NOT NULL, created_at BIGINT NOT NULL, key_id UUID, user_id UUID,
    team_id UUID, session TEXT, dialect TEXT NOT NULL, operation TEXT NOT NULL, requested TEXT NOT NULL, route TEXT,
    prompt TEXT, experiment_id UUID, arm TEXT, labels JSONB, stream BOOLEAN NOT NULL, cache TEXT NOT NULL,
    outcome TEXT NOT NULL, class TEXT NOT NULL, n_attempts BIGINT NOT NULL, input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL, cost_nanos BIGINT, price_state TEXT NOT NULL, ttft_us BIGINT,
    duration_us BIGINT NOT NULL, overhead_us BIGINT NOT NULL, trace_id TEXT NOT NULL
);
CREATE INDEX ai_request_tenant ON ai_request (tenant_id, id);
CREATE INDEX ai_request_key ON ai_request (tenant_id, key_id, id);

CREATE TABLE ai_attempt (
    request_id UUID NOT NULL, n BIGINT NOT NULL, tenant_id UUID NOT NULL, created_at BIGINT NOT NULL,
    provider TEXT NOT NULL, model TEXT NOT NULL, credential_id UUID, tier TEXT NOT NULL, class TEXT NOT NULL,
    status BIGINT, usage JSONB NOT NULL, usage_source TEXT NOT NULL, cost_nanos BIGINT, price_state TEXT NOT NULL,
    duration_us BIGINT NOT NULL,
    PRIMARY KEY (request_id, n)
);

CREATE TABLE outbox (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id UUID NOT NULL UNIQUE, tenant_id UUID NOT NULL, type TEXT NOT NULL,
    subject TEXT NOT NULL, payload BYTEA NOT NULL, created_at BIGINT NOT NULL, published_at BIGINT, stream_epoch BIGINT,
    stream_seq BIGINT, tries INTEGER NOT NULL DEFAULT 0,
    xid XID8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX outbox_unpublished ON outbox (seq) WHERE published_at IS NULL;
CREATE INDEX outbox_stream ON outbox (stream_epoch, stream_seq) WHERE stream_epoch IS NOT NULL;
