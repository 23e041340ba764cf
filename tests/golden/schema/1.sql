CREATE TABLE apps (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        created REAL NOT NULL
    ) STRICT;
CREATE TABLE secrets (
        app TEXT REFERENCES apps (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        created REAL NOT NULL,
        updated REAL NOT NULL,
        key TEXT NOT NULL,
        nonce BLOB NOT NULL,
        ciphertext BLOB NOT NULL
    ) STRICT;
CREATE UNIQUE INDEX secrets_by_scope ON secrets (ifnull(app, ''), name);
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
    ) STRICT;
CREATE INDEX tasks_by_state ON tasks (state);
CREATE TABLE sandboxes (
        id TEXT PRIMARY KEY,
        name TEXT UNIQUE,
        spec TEXT NOT NULL,
        info TEXT NOT NULL,
        wanted INTEGER NOT NULL
    ) STRICT;
INSERT INTO apps VALUES ('app_0123456789ab', 'web', 1795449600.5);
INSERT INTO apps VALUES ('app_ba9876543210', 'worker', 1795449600.5);
INSERT INTO secrets VALUES ('app_0123456789ab', 'API_KEY', 1795449600.5, 1795449600.5, 'f400dc3f4b1e8d1f', X'c26f8e769259390682a1462c', X'b046575c812cc90e2c9db205033aa817b453ff4681b4ae9eb0f1d793');
INSERT INTO secrets VALUES (NULL, 'API_KEY', 1795449600.5, 1795449600.5, 'f400dc3f4b1e8d1f', X'22be5570bbd3367b0a542061', X'4e19830b98285934e8ae434db0617fc3be8e5250cbe055');
INSERT INTO secrets VALUES (NULL, 'EMPTY', 1795449600.5, 1795449600.5, 'f400dc3f4b1e8d1f', X'68a668713f821f91634a7aeb', X'eebc066d2118002946c5929d7dad1694');
INSERT INTO sandboxes VALUES ('0123456789ab', 'dev', '{"image":"base","memory":512,"cpus":1,"disk":null,"processes":null,"writable":false,"pull":"missing","digest":null,"driver":null,"nested":false,"mounts":[],"name":"dev","keep":true}', '{"id":"0123456789ab","image":"base","config":{"env":{},"cwd":"","user":"","entrypoint":[],"command":[]},"driver":"qemu","driver_reason":"it is there","accelerator":"tcg","memory":512,"cpus":1,"pid":null,"kernel":"6.12","phases":{"kernel":1.0},"created":1795449600.5,"disk":null,"processes":null,"state":"RUNNING","memory_used":null,"name":"dev","keep":true}', 0);
INSERT INTO tasks VALUES ('0123456789ab', 1, '0123456789abcdef', 'SUCCEEDED', '["true"]', 'base', NULL, 900.0, 1795449600.5, 1795449601.5, 1795449602.5, 0, NULL, '', NULL);
INSERT INTO tasks VALUES ('ba9876543210', 2, '0123456789abcdef', 'RUNNING', '["sh", "-c", "echo \u00e4"]', 'base', 'app_0123456789ab', NULL, 1795449600.5, 1795449601.5, NULL, NULL, NULL, '', 'fedcba987654');
