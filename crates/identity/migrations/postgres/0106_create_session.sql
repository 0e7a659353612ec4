CREATE TABLE session (
    id UUID PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    user_id UUID NOT NULL REFERENCES user_account (id),
    tenant_id UUID NOT NULL REFERENCES tenant (id),
    auth_time BIGINT NOT NULL,
    mfa BOOLEAN NOT NULL,
    ip TEXT NOT NULL,
    agent TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE INDEX session_by_user ON session (tenant_id, user_id, id);

-- Who tries to log in how often: accounts, networks, and accounts from networks. Names are hashes where they are addresses.
CREATE TABLE login_attempt (
    subject TEXT PRIMARY KEY,
    n BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    at BIGINT NOT NULL
);

CREATE INDEX login_attempt_by_time ON login_attempt (at, subject);
