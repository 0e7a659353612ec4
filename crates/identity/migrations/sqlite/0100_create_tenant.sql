CREATE TABLE tenant (
    id BLOB PRIMARY KEY NOT NULL,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'deleting')),
    settings TEXT NOT NULL,
    delete_after INTEGER,
    created_at INTEGER NOT NULL
) STRICT;
