CREATE TABLE ai_request (
    id BLOB NOT NULL PRIMARY KEY, tenant_id BLOB NOT NULL, created_at BIGINT NOT NULL, key_id BLOB, user_id BLOB,
    team_id BLOB, session TEXT, dialect TEXT NOT NULL, operation TEXT NOT NULL, requested TEXT NOT NULL, route TEXT,
    prompt TEXT, experiment_id BLOB, arm TEXT, labels TEXT, stream BOOLEAN NOT NULL, cache TEXT NOT NULL,
    outcome TEXT NOT NULL, class TEXT NOT NULL, n_attempts BIGINT NOT NULL, input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL, cost_nanos BIGINT, price_state TEXT NOT NULL, ttft_us BIGINT,
    duration_us BIGINT NOT NULL, overhead_us BIGINT NOT NULL, trace_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX ai_request_tenant ON ai_request (tenant_id, id);
CREATE INDEX ai_request_key ON ai_request (tenant_id, key_id, id);

CREATE TABLE ai_attempt (
    request_id BLOB NOT NULL, n BIGINT NOT NULL, tenant_id BLOB NOT NULL, created_at BIGINT NOT NULL,
    provider TEXT NOT NULL, model TEXT NOT NULL, credential_id BLOB, tier TEXT NOT NULL, class TEXT NOT NULL,
    status BIGINT, usage TEXT NOT NULL, usage_source TEXT NOT NULL, cost_nanos BIGINT, price_state TEXT NOT NULL,
    duration_us BIGINT NOT NULL,
    PRIMARY KEY (request_id, n)
) WITHOUT ROWID;

CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id BLOB NOT NULL UNIQUE, tenant_id BLOB NOT NULL, type TEXT NOT NULL,
    subject TEXT NOT NULL, payload BLOB NOT NULL, created_at BIGINT NOT NULL, published_at BIGINT, stream_epoch BIGINT,
    stream_seq BIGINT, tries INTEGER NOT NULL DEFAULT 0
);
