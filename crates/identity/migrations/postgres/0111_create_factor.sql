-- What people prove beside their password. `secret` is sealed; the last code that worked was that of `last_step`, and that
-- of an earlier or the same step never works again. Who fails too often in a row is locked out of it for a while.
CREATE TABLE factor (
    id UUID PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES user_account (id),
    kind TEXT NOT NULL,
    secret BYTEA NOT NULL,
    last_step BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    locked_until BIGINT,
    created_at BIGINT NOT NULL,
    confirmed_at BIGINT
);

CREATE INDEX factor_by_user ON factor (user_id);

-- What works once in place of a factor. Only a hash of it is kept.
CREATE TABLE recovery_code (
    user_id UUID NOT NULL REFERENCES user_account (id),
    hash BYTEA NOT NULL,
    used_at BIGINT,
    PRIMARY KEY (user_id, hash)
);
