-- One row per request of a caller, one per HTTP request to a provider. Times are microseconds since 1970.
CREATE TABLE ai_request (
    id BLOB NOT NULL PRIMARY KEY,
    tenant_id BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    key_id BLOB,
    dialect TEXT NOT NULL,
    operation TEXT NOT NULL,
    requested TEXT NOT NULL,
    stream BOOLEAN NOT NULL,
    outcome TEXT NOT NULL,
    class TEXT NOT NULL,
    n_attempts BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cost_nanos BIGINT,
    price_state TEXT NOT NULL,
    ttft_us BIGINT,
    duration_us BIGINT NOT NULL,
    overhead_us BIGINT NOT NULL,
    trace_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX ai_request_tenant ON ai_request (tenant_id, id);

CREATE TABLE ai_attempt (
    request_id BLOB NOT NULL,
    n BIGINT NOT NULL,
    tenant_id BLOB NOT NULL,
    created_at BIGINT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    tier TEXT NOT NULL,
    class TEXT NOT NULL,
    status BIGINT,
    input_tokens BIGINT NOT NULL,
    cached_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    usage_source TEXT NOT NULL,
    cost_nanos BIGINT,
    price_state TEXT NOT NULL,
    ttft_us BIGINT,
    duration_us BIGINT NOT NULL,
    PRIMARY KEY (request_id, n)
) WITHOUT ROWID;
