ALTER TABLE sessions ADD COLUMN forwards TEXT NOT NULL DEFAULT '[]'; -- JSON array of ports
