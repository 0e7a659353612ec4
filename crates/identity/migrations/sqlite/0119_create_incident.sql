-- What looks like an attack, once per rule and subject until somebody has acknowledged it.
CREATE TABLE incident (
    id BLOB PRIMARY KEY NOT NULL,
    tenant_id BLOB NOT NULL,
    rule TEXT NOT NULL,
    severity TEXT NOT NULL,
    subject TEXT NOT NULL,
    count INTEGER NOT NULL,
    first_at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    detail TEXT NOT NULL,
    acknowledged_by TEXT,
    acknowledged_at INTEGER
);

CREATE UNIQUE INDEX incident_open ON incident (tenant_id, rule, subject) WHERE acknowledged_at IS NULL;

-- Networks that nothing is taken from for a while. They belong to no tenant: they are told before anybody knows who calls.
CREATE TABLE network_block (
    id BLOB PRIMARY KEY NOT NULL,
    network TEXT NOT NULL UNIQUE,
    rule TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
);
