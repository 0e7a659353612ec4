-- What a job was enqueued for, as the envelope of an event without an id: the events of the job carry it on.
ALTER TABLE job ADD COLUMN chain BLOB NOT NULL DEFAULT x'';
