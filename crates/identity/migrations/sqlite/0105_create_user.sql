CREATE TABLE user_account (
    id BLOB PRIMARY KEY NOT NULL,
    email_norm TEXT UNIQUE,
    email TEXT,
    email_verified_at INTEGER,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'erased')),
    generation INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    erased_at INTEGER
);

CREATE TABLE password (
    user_id BLOB PRIMARY KEY NOT NULL REFERENCES user_account (id),
    phc TEXT NOT NULL,
    changed_at INTEGER NOT NULL
);

CREATE TABLE membership (
    tenant_id BLOB NOT NULL REFERENCES tenant (id),
    user_id BLOB NOT NULL REFERENCES user_account (id),
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);

-- `role` is the name of a built-in role, or the id of one that a tenant made.
CREATE TABLE role_binding (
    tenant_id BLOB NOT NULL REFERENCES tenant (id),
    subject_kind TEXT NOT NULL,
    subject_id BLOB NOT NULL,
    role TEXT NOT NULL,
    PRIMARY KEY (tenant_id, subject_kind, subject_id, role)
);

-- What works once, for one purpose. Only a hash of it is kept.
CREATE TABLE one_time (
    hash BLOB PRIMARY KEY NOT NULL,
    purpose TEXT NOT NULL,
    user_id BLOB,
    data TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER
);
