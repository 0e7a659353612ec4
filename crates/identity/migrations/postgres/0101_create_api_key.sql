CREATE TABLE api_key (
    id UUID PRIMARY KEY,
    tenant_id UUID NOT NULL REFERENCES tenant (id),
    owner_id UUID,
    name TEXT NOT NULL,
    environment TEXT NOT NULL,
    grants JSONB NOT NULL,
    restrictions JSONB NOT NULL,
    limits JSONB NOT NULL,
    credits BIGINT,
    refill JSONB,
    state TEXT NOT NULL,
    canary BOOLEAN NOT NULL,
    metadata JSONB NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE INDEX api_key_by_tenant ON api_key (tenant_id, id);

CREATE TABLE api_key_secret (
    lookup TEXT PRIMARY KEY,
    key_id UUID NOT NULL REFERENCES api_key (id),
    hash BYTEA NOT NULL,
    pepper_id INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('current', 'previous', 'revoked')),
    expires_at BIGINT,
    first_used_at BIGINT,
    created_at BIGINT NOT NULL
);

CREATE INDEX api_key_secret_by_key ON api_key_secret (key_id);
