CREATE TABLE revocation (
    seq BIGINT PRIMARY KEY,
    subject TEXT NOT NULL,
    generation BIGINT NOT NULL,
    at BIGINT NOT NULL
);

-- One row: whoever revokes takes the next number from it, so that numbers follow the order of commits.
CREATE TABLE revocation_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL
);

INSERT INTO revocation_head (id, seq) VALUES (1, 0);
