-- Whoever holds the token may join. Only a hash of it is kept.
CREATE TABLE invitation (
    id BLOB PRIMARY KEY NOT NULL,
    tenant_id BLOB NOT NULL REFERENCES tenant (id),
    email_norm TEXT NOT NULL,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    invited_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER
);

CREATE INDEX invitation_by_tenant ON invitation (tenant_id, id);

CREATE INDEX membership_by_user ON membership (user_id);
