-- For whom keys are: a customer or program of the tenant, under the tenant's own name for it.
CREATE TABLE owner (
    id UUID PRIMARY KEY,
    tenant_id UUID NOT NULL REFERENCES tenant (id),
    external_id TEXT NOT NULL,
    name TEXT NOT NULL,
    metadata JSONB NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (tenant_id, external_id)
);

CREATE INDEX api_key_by_owner ON api_key (owner_id) WHERE owner_id IS NOT NULL;
