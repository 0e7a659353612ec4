-- Limits that were given to somebody of a tenant: to a key or person, by its printed id, or to `tenant`, which is all of them.
CREATE TABLE limit_rule (
    tenant_id UUID NOT NULL REFERENCES tenant (id),
    subject TEXT NOT NULL,
    rules JSONB NOT NULL,
    updated_by TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, subject)
);
