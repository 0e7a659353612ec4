-- Sessions that are over are removed in the order in which they end; those of a person end in every tenant.
CREATE INDEX session_by_time ON session (expires_at, id);
CREATE INDEX session_of_user ON session (user_id);
CREATE INDEX one_time_by_time ON one_time (expires_at, hash);
CREATE INDEX one_time_by_user ON one_time (user_id) WHERE user_id IS NOT NULL;
