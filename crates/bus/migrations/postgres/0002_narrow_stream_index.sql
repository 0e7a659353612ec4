-- Events that no stream has yet are the many that are being written; nobody looks for them here.
DROP INDEX outbox_stream;
CREATE INDEX outbox_stream ON outbox (stream_epoch, stream_seq) WHERE stream_epoch IS NOT NULL;
