-- What was asked with an idempotency key, written in the transaction of its effect: who asks again gets the same answer.
-- scope: hash of tenant, caller, operation and key. fingerprint: hash of the request. answer: NULL only inside the transaction.
CREATE TABLE idempotency (
    scope BYTEA NOT NULL PRIMARY KEY,
    fingerprint BYTEA NOT NULL,
    answer BYTEA,
    created_at BIGINT NOT NULL
);

CREATE INDEX idempotency_age ON idempotency (created_at, scope);
