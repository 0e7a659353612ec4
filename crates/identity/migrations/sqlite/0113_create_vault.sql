-- Master keys by name; the keys themselves are never here. check_blob tells the right one.
CREATE TABLE vault_master (
    id TEXT PRIMARY KEY NOT NULL,
    check_blob BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'retiring', 'retired')),
    created_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX vault_master_active ON vault_master (state) WHERE state = 'active';

-- Keys of tenants, sealed under a master key. The nil tenant's are for what belongs to no tenant.
CREATE TABLE vault_key (
    tenant_id BLOB NOT NULL,
    version INTEGER NOT NULL,
    wrapped BLOB NOT NULL,
    master_id TEXT NOT NULL REFERENCES vault_master (id),
    state TEXT NOT NULL CHECK (state IN ('active', 'replaced')),
    seals INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    replaced_at INTEGER,
    PRIMARY KEY (tenant_id, version)
) STRICT;

CREATE UNIQUE INDEX vault_key_active ON vault_key (tenant_id) WHERE state = 'active';
CREATE INDEX vault_key_replaced ON vault_key (replaced_at) WHERE state = 'replaced';

-- Tables of other services in which something of a tenant is sealed, and the lowest version that may still be in them.
CREATE TABLE vault_holder (
    tenant_id BLOB NOT NULL,
    holder TEXT NOT NULL,
    lowest INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, holder)
) STRICT;

CREATE TABLE vault_secret (
    id BLOB PRIMARY KEY NOT NULL,
    tenant_id BLOB NOT NULL REFERENCES tenant (id),
    name TEXT NOT NULL,
    sealed BLOB NOT NULL,
    version INTEGER NOT NULL,
    last4 TEXT,
    updated_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (tenant_id, name)
) STRICT;

CREATE INDEX vault_secret_by_tenant ON vault_secret (tenant_id, id);
