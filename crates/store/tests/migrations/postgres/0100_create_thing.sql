CREATE TABLE thing (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    name TEXT NOT NULL,
    document JSONB NOT NULL,
    used BIGINT NOT NULL CHECK (used >= 0),
    ratio DOUBLE PRECISION,
    active BOOLEAN NOT NULL,
    digest BYTEA,
    created_at BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);
