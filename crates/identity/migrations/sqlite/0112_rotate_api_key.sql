-- A key has one secret, or two while it is rotated: the old one is `previous` until the rotation ends.
CREATE UNIQUE INDEX api_key_secret_in_use ON api_key_secret (key_id, state) WHERE state <> 'revoked';

ALTER TABLE api_key_secret ADD COLUMN last_used_at INTEGER;
-- When to say that the old secret is still used; NULL = never, or said.
ALTER TABLE api_key_secret ADD COLUMN warn_at INTEGER;
CREATE INDEX api_key_secret_warn_at ON api_key_secret (warn_at) WHERE warn_at IS NOT NULL;

-- How many days a secret shall live at most, and when to say that its time has come; NULL = never, or said.
ALTER TABLE api_key ADD COLUMN rotate_days INTEGER;
ALTER TABLE api_key ADD COLUMN remind_at INTEGER;
CREATE INDEX api_key_remind_at ON api_key (remind_at) WHERE remind_at IS NOT NULL;

-- When credits are filled up next, and since when a call is known to have been refused for lack of them.
ALTER TABLE api_key ADD COLUMN refill_at INTEGER;
ALTER TABLE api_key ADD COLUMN exhausted_at INTEGER;
