-- What a job was enqueued for, as the envelope of an event without an id: the events of the job carry it on.
ALTER TABLE job ADD COLUMN chain BYTEA NOT NULL DEFAULT '';
