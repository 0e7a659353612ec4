-- Keys that sign access tokens. One of them signs, one waits for its turn, the others verify what they signed: these have
-- no private part any more.
CREATE TABLE signing_key (
    id UUID PRIMARY KEY,
    alg TEXT NOT NULL,
    private BYTEA,
    public JSONB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('next', 'active', 'verify_only')),
    since BIGINT NOT NULL
);

-- Of several processes that take turns at once, one succeeds.
CREATE UNIQUE INDEX signing_key_in_turn ON signing_key (alg, state) WHERE state <> 'verify_only';

-- How long a session behind tokens may go without use, in microseconds. NULL in a browser, where the tenant decides.
ALTER TABLE session ADD COLUMN idle BIGINT;

-- What a session behind tokens is renewed by, once each. Used ones are kept to notice who uses them again.
CREATE TABLE refresh_token (
    hash BYTEA PRIMARY KEY,
    session_id UUID NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);

CREATE INDEX refresh_token_by_time ON refresh_token (expires_at, hash);
