CREATE TABLE session (
    id BLOB PRIMARY KEY NOT NULL,
    hash BLOB NOT NULL UNIQUE,
    user_id BLOB NOT NULL REFERENCES user_account (id),
    tenant_id BLOB NOT NULL REFERENCES tenant (id),
    auth_time INTEGER NOT NULL,
    mfa INTEGER NOT NULL,
    ip TEXT NOT NULL,
    agent TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER
);

CREATE INDEX session_by_user ON session (tenant_id, user_id, id);

-- Who tries to log in how often: accounts, networks, and accounts from networks. Names are hashes where they are addresses.
CREATE TABLE login_attempt (
    subject TEXT PRIMARY KEY NOT NULL,
    n INTEGER NOT NULL,
    next_at INTEGER NOT NULL,
    at INTEGER NOT NULL
);

CREATE INDEX login_attempt_by_time ON login_attempt (at, subject);
