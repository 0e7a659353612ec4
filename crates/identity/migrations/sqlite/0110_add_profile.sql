ALTER TABLE user_account ADD COLUMN locale TEXT;
ALTER TABLE user_account ADD COLUMN zone TEXT;
-- When the person was last told that somebody guesses the password.
ALTER TABLE user_account ADD COLUMN warned_at INTEGER;

-- From where people logged in.
CREATE TABLE user_place (
    user_id BLOB NOT NULL REFERENCES user_account (id),
    network TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (user_id, network)
);

CREATE INDEX user_place_by_time ON user_place (seen_at, user_id, network);
