-- Events that a consumer has taken from the stream, in the transaction of their effects: the stream may bring them again.
-- Ids begin with the time, so old ones are found by the key.
CREATE TABLE inbox (
    consumer TEXT NOT NULL,
    event_id UUID NOT NULL,
    PRIMARY KEY (consumer, event_id)
);
