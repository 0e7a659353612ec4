CREATE TABLE system_key (
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    wrapped BLOB NOT NULL,
    master_id TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (name, version)
) STRICT;
