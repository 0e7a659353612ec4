CREATE TABLE thing_part (
    thing_id UUID NOT NULL REFERENCES thing (id),
    n BIGINT NOT NULL CHECK (n < 100),
    PRIMARY KEY (thing_id, n)
);
