-- Signatures of the ends of audit chains as they once were: a chain that is shorter or other than that was tampered with.
CREATE TABLE audit_checkpoint (
    tenant_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    at INTEGER NOT NULL,
    kid TEXT NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);
