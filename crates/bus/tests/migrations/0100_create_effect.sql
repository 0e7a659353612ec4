CREATE TABLE effect (subject TEXT NOT NULL);
