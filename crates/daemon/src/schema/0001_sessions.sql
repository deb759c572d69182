CREATE TABLE sessions (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    mode        TEXT NOT NULL,
    backend     TEXT NOT NULL,
    agent       TEXT NOT NULL,
    repo        TEXT,
    prompt      TEXT,
    command     TEXT NOT NULL,      -- JSON array; [] means no process of its own
    created_ms  INTEGER NOT NULL,   -- since the Unix epoch
    status      TEXT NOT NULL,
    pid         INTEGER,
    pid_start   INTEGER,            -- clock ticks since boot: tells the process from a later one with its number
    exit_code   INTEGER,
    credentials TEXT,               -- JSON array of names; NULL means all
    allow_hosts TEXT,               -- JSON array of patterns; NULL means all
    ephemeral   INTEGER NOT NULL,
    owner_pid   INTEGER,
    owner_start INTEGER
) STRICT;

CREATE TABLE session_tokens (
    hash       BLOB PRIMARY KEY,    -- SHA-256; the token itself is never kept
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX session_tokens_by_session ON session_tokens (session_id, created_ms);
