-- A SQLite file has no relay: its consumers read by cursor. Both indexes serve the relay only and took a write per event.
DROP INDEX outbox_unpublished;
DROP INDEX outbox_stream;
