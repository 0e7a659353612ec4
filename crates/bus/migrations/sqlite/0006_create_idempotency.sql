-- What was asked with an idempotency key, written in the transaction of its effect: who asks again gets the same answer.
-- scope: hash of tenant, caller, operation and key. fingerprint: hash of the request. answer: NULL only inside the transaction.
CREATE TABLE idempotency (
    scope BLOB NOT NULL PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    answer BLOB,
    created_at BIGINT NOT NULL
);

CREATE INDEX idempotency_age ON idempotency (created_at, scope);
