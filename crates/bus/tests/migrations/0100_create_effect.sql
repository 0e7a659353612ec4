CREATE TABLE effect (subject TEXT NOT NULL CHECK (subject <> 'refused by the table'));
