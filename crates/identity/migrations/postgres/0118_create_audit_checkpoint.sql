-- Signatures of the ends of audit chains as they once were: a chain that is shorter or other than that was tampered with.
CREATE TABLE audit_checkpoint (
    tenant_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    at BIGINT NOT NULL,
    kid TEXT NOT NULL,
    signature BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);
