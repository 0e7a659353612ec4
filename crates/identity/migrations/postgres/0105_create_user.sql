CREATE TABLE user_account (
    id UUID PRIMARY KEY,
    email_norm TEXT UNIQUE,
    email TEXT,
    email_verified_at BIGINT,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'erased')),
    generation BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    erased_at BIGINT
);

CREATE TABLE password (
    user_id UUID PRIMARY KEY REFERENCES user_account (id),
    phc TEXT NOT NULL,
    changed_at BIGINT NOT NULL
);

CREATE TABLE membership (
    tenant_id UUID NOT NULL REFERENCES tenant (id),
    user_id UUID NOT NULL REFERENCES user_account (id),
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, user_id)
);

-- `role` is the name of a built-in role, or the id of one that a tenant made.
CREATE TABLE role_binding (
    tenant_id UUID NOT NULL REFERENCES tenant (id),
    subject_kind TEXT NOT NULL,
    subject_id UUID NOT NULL,
    role TEXT NOT NULL,
    PRIMARY KEY (tenant_id, subject_kind, subject_id, role)
);

-- What works once, for one purpose. Only a hash of it is kept.
CREATE TABLE one_time (
    hash BYTEA PRIMARY KEY,
    purpose TEXT NOT NULL,
    user_id UUID,
    data JSONB NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);
