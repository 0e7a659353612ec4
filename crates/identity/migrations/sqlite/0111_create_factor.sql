-- What people prove beside their password. `secret` is sealed; the last code that worked was that of `last_step`, and that
-- of an earlier or the same step never works again. Who fails too often in a row is locked out of it for a while.
CREATE TABLE factor (
    id BLOB PRIMARY KEY NOT NULL,
    user_id BLOB NOT NULL REFERENCES user_account (id),
    kind TEXT NOT NULL,
    secret BLOB NOT NULL,
    last_step INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    locked_until INTEGER,
    created_at INTEGER NOT NULL,
    confirmed_at INTEGER
);

CREATE INDEX factor_by_user ON factor (user_id);

-- What works once in place of a factor. Only a hash of it is kept.
CREATE TABLE recovery_code (
    user_id BLOB NOT NULL REFERENCES user_account (id),
    hash BLOB NOT NULL,
    used_at INTEGER,
    PRIMARY KEY (user_id, hash)
);
