-- What was done, by whom, in a chain per tenant: each hash holds everything before it. Rows are never changed or deleted;
-- only their detail, of which the chain holds a hash, may be erased. The nil tenant's chain is the installation's own.
CREATE TABLE audit_entry (
    tenant_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome TEXT NOT NULL,
    request_id TEXT,
    trace_id TEXT,
    detail_sha256 BLOB NOT NULL,
    detail TEXT,
    hash BLOB NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);

-- The last entry of each chain. Whoever appends locks its row.
CREATE TABLE audit_head (
    tenant_id BLOB PRIMARY KEY NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL
);

CREATE TRIGGER audit_entry_is_not_changed
BEFORE UPDATE OF tenant_id, seq, at, actor, action, target, outcome, request_id, trace_id, detail_sha256, hash ON audit_entry
BEGIN
    SELECT RAISE(ABORT, 'audit entries are never changed');
END;

CREATE TRIGGER audit_detail_is_only_erased BEFORE UPDATE OF detail ON audit_entry WHEN NEW.detail IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'the detail of an audit entry can only be erased');
END;

CREATE TRIGGER audit_entry_is_not_deleted BEFORE DELETE ON audit_entry
BEGIN
    SELECT RAISE(ABORT, 'audit entries are never deleted');
END;
