CREATE TABLE thing (
    id BLOB NOT NULL PRIMARY KEY,
    tenant_id BLOB NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    used BIGINT NOT NULL CHECK (used >= 0),
    ratio DOUBLE,
    active BOOLEAN NOT NULL,
    digest BLOB,
    created_at BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);
