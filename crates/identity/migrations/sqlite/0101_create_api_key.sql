CREATE TABLE api_key (
    id BLOB PRIMARY KEY NOT NULL,
    tenant_id BLOB NOT NULL REFERENCES tenant (id),
    owner_id BLOB,
    name TEXT NOT NULL,
    environment TEXT NOT NULL,
    grants TEXT NOT NULL,
    restrictions TEXT NOT NULL,
    limits TEXT NOT NULL,
    credits INTEGER,
    refill TEXT,
    state TEXT NOT NULL,
    canary INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

CREATE INDEX api_key_by_tenant ON api_key (tenant_id, id);

CREATE TABLE api_key_secret (
    lookup TEXT PRIMARY KEY NOT NULL,
    key_id BLOB NOT NULL REFERENCES api_key (id),
    hash BLOB NOT NULL,
    pepper_id INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('current', 'previous', 'revoked')),
    expires_at INTEGER,
    first_used_at INTEGER,
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX api_key_secret_by_key ON api_key_secret (key_id);
