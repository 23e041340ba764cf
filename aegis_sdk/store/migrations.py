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

# Releases and instances of apps, the addresses that apps and tasks have.
_SECOND = (
    # What an app is to be, as JSON: of one that is older than that, what it is by default.
    "ALTER TABLE apps ADD COLUMN spec TEXT NOT NULL DEFAULT '{}'",
    """
    CREATE TABLE releases (
        id TEXT PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        label TEXT,
        created REAL NOT NULL,
        spec TEXT NOT NULL,
        UNIQUE (app, number),
        UNIQUE (app, label)
    ) STRICT
    """,
    """
    CREATE TRIGGER releases_never_change BEFORE UPDATE ON releases
    BEGIN SELECT raise(ABORT, 'a release never changes'); END
    """,
    """
    CREATE TABLE instances (
        id TEXT PRIMARY KEY,
        app TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
        release TEXT NOT NULL REFERENCES releases (id) ON DELETE CASCADE,
        place INTEGER,
        created REAL NOT NULL,
        served REAL,
        UNIQUE (app, release),
        UNIQUE (app, place)
    ) STRICT
    """,
    """
    CREATE TABLE local_ports (
        app TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
        port INTEGER NOT NULL,
        local INTEGER NOT NULL UNIQUE,
        PRIMARY KEY (app, port)
    ) STRICT
    """,
    "ALTER TABLE tasks ADD COLUMN url TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE tasks ADD COLUMN addresses TEXT NOT NULL DEFAULT '{}'",
)

MIGRATIONS = (_FIRST, _SECOND)
