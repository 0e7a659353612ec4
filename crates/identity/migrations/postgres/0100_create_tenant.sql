CREATE TABLE tenant (
    id UUID PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'suspended', 'deleting')),
    settings JSONB NOT NULL,
    delete_after BIGINT,
    created_at BIGINT NOT NULL
);
