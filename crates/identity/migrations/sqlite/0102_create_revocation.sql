CREATE TABLE revocation (
    seq INTEGER PRIMARY KEY NOT NULL,
    subject TEXT NOT NULL,
    generation INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;

-- One row: whoever revokes takes the next number from it, so that numbers follow the order of commits.
CREATE TABLE revocation_head (
    id INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    seq INTEGER NOT NULL
) STRICT;

INSERT INTO revocation_head (id, seq) VALUES (1, 0);
