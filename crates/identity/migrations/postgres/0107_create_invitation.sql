-- Whoever holds the token may join. Only a hash of it is kept.
CREATE TABLE invitation (
    id UUID PRIMARY KEY,
    tenant_id UUID NOT NULL REFERENCES tenant (id),
    email_norm TEXT NOT NULL,
    email TEXT NOT NULL,
    role TEXT NOT NULL,
    hash BYTEA NOT NULL UNIQUE,
    invited_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);

CREATE INDEX invitation_by_tenant ON invitation (tenant_id, id);

CREATE INDEX membership_by_user ON membership (user_id);
