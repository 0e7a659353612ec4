-- Limits that were given to somebody of a tenant: to a key or person, by its printed id, or to `tenant`, which is all of them.
CREATE TABLE limit_rule (
    tenant_id BLOB NOT NULL REFERENCES tenant (id),
    subject TEXT NOT NULL,
    rules TEXT NOT NULL,
    updated_by TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, subject)
);
