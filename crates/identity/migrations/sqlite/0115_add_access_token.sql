-- Keys that sign access tokens. One of them signs, one waits for its turn, the others verify what they signed: these have
-- no private part any more.
CREATE TABLE signing_key (
    id BLOB PRIMARY KEY NOT NULL,
    alg TEXT NOT NULL,
    private BLOB,
    public TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('next', 'active', 'verify_only')),
    since INTEGER NOT NULL
) STRICT;

-- Of several processes that take turns at once, one succeeds.
CREATE UNIQUE INDEX signing_key_in_turn ON signing_key (alg, state) WHERE state <> 'verify_only';

-- How long a session behind tokens may go without use, in microseconds. NULL in a browser, where the tenant decides.
ALTER TABLE session ADD COLUMN idle INTEGER;

-- What a session behind tokens is renewed by, once each. Used ones are kept to notice who uses them again.
CREATE TABLE refresh_token (
    hash BLOB PRIMARY KEY NOT NULL,
    session_id BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at INTEGER
) STRICT;

CREATE INDEX refresh_token_by_time ON refresh_token (expires_at, hash);
