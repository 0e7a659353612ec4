CREATE TABLE role (
    id UUID PRIMARY KEY,
    tenant_id UUID NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL,
    grants JSONB NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (tenant_id, name)
);
