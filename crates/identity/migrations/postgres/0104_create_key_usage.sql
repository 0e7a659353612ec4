-- What a key was used for, by hour. Added up from the events of the services that it calls.
CREATE TABLE key_usage (
    key_id UUID NOT NULL,
    tenant_id UUID NOT NULL,
    hour BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    operation TEXT NOT NULL,
    n BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cost_nanos BIGINT NOT NULL,
    n_unpriced BIGINT NOT NULL,
    duration_us BIGINT NOT NULL,
    PRIMARY KEY (key_id, hour, outcome, operation)
);

CREATE INDEX key_usage_hour ON key_usage (hour);
