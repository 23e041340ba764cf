"""The schema, as the numbered steps that made it what it is: a step that was released is never changed."""

from __future__ import annotations

_FIRST = (
    """
    CREATE TABLE apps (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        created REAL NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE secrets (
        app TEXT REFERENCES apps (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        created REAL NOT NULL,
        updated REAL NOT NULL,
        key TEXT NOT NULL,
        nonce BLOB NOT NULL,
        ciphertext BLOB NOT NULL
    ) STRICT
    """,
    # NULL is the scope of all apps, and UNIQUE would take every NULL for another one.
    "CREATE UNIQUE INDEX secrets_by_scope ON secrets (ifnull(app, ''), name)",
    """
    CREATE TABLE tasks (
        id TEXT PRIMARY KEY,
        number INTEGER NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        state TEXT NOT NULL,
        command TEXT NOT NULL,
        image TEXT NOT NULL,
        app TEXT,
        timeout REAL,
        created REAL NOT NULL,
        started REAL,
        ended REAL,
        exit_code INTEGER,
        signal TEXT,
        reason TEXT NOT NULL DEFAULT '',
        sandbox TEXT
    ) STRICT
    """,
    "CREATE INDEX tasks_by_state ON tasks (state)",
    """
    CREATE TABLE sandboxes (
        id TEXT PRIMARY KEY,
        name TEXT UNIQUE,
        spec TEXT NOT NULL,
        info TEXT NOT NULL,
        wanted INTEGER NOT NULL
    ) STRICT
    """,
)

MIGRATIONS = (_FIRST,)
