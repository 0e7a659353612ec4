-- What was done, by whom, in a chain per tenant: each hash holds everything before it. Rows are never changed or deleted;
-- only their detail, of which the chain holds a hash, may be erased. The nil tenant's chain is the installation's own.
CREATE TABLE audit_entry (
    tenant_id UUID NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    outcome TEXT NOT NULL,
    request_id TEXT,
    trace_id TEXT,
    detail_sha256 BYTEA NOT NULL,
    detail TEXT,
    hash BYTEA NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);

-- The last entry of each chain. Whoever appends locks its row.
CREATE TABLE audit_head (
    tenant_id UUID PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL
);

-- A trigger, because the role of the application owns the tables: rights alone would not hold it back.
CREATE FUNCTION audit_entry_is_forever() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.detail IS NULL AND to_jsonb(NEW) - 'detail' = to_jsonb(OLD) - 'detail' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'audit entries are never changed or deleted, only their detail is erased';
END;
$$;

CREATE TRIGGER audit_entry_is_forever BEFORE UPDATE OR DELETE ON audit_entry
FOR EACH ROW EXECUTE FUNCTION audit_entry_is_forever();

CREATE TRIGGER audit_entry_is_not_emptied BEFORE TRUNCATE ON audit_entry
FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_is_forever();
