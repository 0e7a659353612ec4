-- Work that outlives its process. state: 1 queued, 2 running, 3 succeeded, 4 dead, 5 canceled.
-- args, cursor, result: JSON as text, which Postgres' own type would refuse or change here and there.
-- fence: grows with each lease; who writes with an old one changes nothing.
-- n_attempts: since it last got further.
CREATE TABLE job (
    id UUID NOT NULL PRIMARY KEY,
    tenant_id UUID NOT NULL,
    kind TEXT NOT NULL,
    dedup_key TEXT,
    args TEXT NOT NULL,
    state BIGINT NOT NULL,
    run_at BIGINT NOT NULL,
    n_attempts BIGINT NOT NULL DEFAULT 0,
    max_attempts BIGINT NOT NULL,
    cursor TEXT,
    done BIGINT NOT NULL DEFAULT 0,
    total BIGINT,
    lease_until BIGINT,
    fence BIGINT NOT NULL DEFAULT 0,
    cancel_at BIGINT,
    result TEXT,
    error TEXT,
    created_at BIGINT NOT NULL,
    finished_at BIGINT
);

CREATE INDEX job_queued ON job (kind, tenant_id, run_at) WHERE state = 1;
CREATE INDEX job_running ON job (kind, tenant_id) WHERE state = 2;
CREATE INDEX job_of_tenant ON job (tenant_id, id);
CREATE UNIQUE INDEX job_dedup ON job (tenant_id, kind, dedup_key) WHERE state IN (1, 2);
