BEGIN TRANSACTION;
CREATE TABLE apps (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        created REAL NOT NULL
    , spec TEXT NOT NULL DEFAULT '{}') STRICT;
INSERT INTO "apps" VALUES('app_0123456789ab','web',1795449600.5,'{}');
INSERT INTO "apps" VALUES('app_ba9876543210','worker',1795449600.5,'{}');
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
    ;
CREATE TABLE local_ports (
        app TEXT NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
        port INTEGER NOT NULL,
        local INTEGER NOT NULL UNIQUE,
        PRIMARY KEY (app, port)
    ) STRICT
    ;
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
    ;
CREATE TABLE sandboxes (
        id TEXT PRIMARY KEY,
        name TEXT UNIQUE,
        spec TEXT NOT NULL,
        info TEXT NOT NULL,
        wanted INTEGER NOT NULL
    ) STRICT;
INSERT INTO "sandboxes" VALUES('0123456789ab','dev','{"image":"base","memory":512,"cpus":1,"disk":null,"processes":null,"writable":false,"pull":"missing","digest":null,"driver":null,"nested":false,"mounts":[],"name":"dev","keep":true}','{"id":"0123456789ab","image":"base","config":{"env":{},"cwd":"","user":"","entrypoint":[],"command":[]},"driver":"qemu","driver_reason":"it is there","accelerator":"tcg","memory":512,"cpus":1,"pid":null,"kernel":"6.12","phases":{"kernel":1.0},"created":1795449600.5,"disk":null,"processes":null,"state":"RUNNING","memory_used":null,"name":"dev","keep":true}',0);
CREATE TABLE secrets (
        app TEXT REFERENCES apps (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        created REAL NOT NULL,
        updated REAL NOT NULL,
        key TEXT NOT NULL,
        nonce BLOB NOT NULL,
        ciphertext BLOB NOT NULL
    ) STRICT;
INSERT INTO "secrets" VALUES('app_0123456789ab','API_KEY',1795449600.5,1795449600.5,'f400dc3f4b1e8d1f',X'C26F8E769259390682A1462C',X'B046575C812CC90E2C9DB205033AA817B453FF4681B4AE9EB0F1D793');
INSERT INTO "secrets" VALUES(NULL,'API_KEY',1795449600.5,1795449600.5,'f400dc3f4b1e8d1f',X'22BE5570BBD3367B0A542061',X'4E19830B98285934E8AE434DB0617FC3BE8E5250CBE055');
INSERT INTO "secrets" VALUES(NULL,'EMPTY',1795449600.5,1795449600.5,'f400dc3f4b1e8d1f',X'68A668713F821F91634A7AEB',X'EEBC066D2118002946C5929D7DAD1694');
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
    , url TEXT NOT NULL DEFAULT '', addresses TEXT NOT NULL DEFAULT '{}') STRICT;
INSERT INTO "tasks" VALUES('0123456789ab',1,'0123456789abcdef','SUCCEEDED','["true"]','base',NULL,900.0,1795449600.5,1795449601.5,1795449602.5,0,NULL,'',NULL,'','{}');
INSERT INTO "tasks" VALUES('ba9876543210',2,'0123456789abcdef','RUNNING','["sh", "-c", "echo \u00e4"]','base','app_0123456789ab',NULL,1795449600.5,1795449601.5,NULL,NULL,NULL,'','fedcba987654','','{}');
CREATE UNIQUE INDEX secrets_by_scope ON secrets (ifnull(app, ''), name);
CREATE INDEX tasks_by_state ON tasks (state);
CREATE TRIGGER releases_never_change BEFORE UPDATE ON releases
    BEGIN SELECT raise(ABORT, 'a release never changes'); END;
INSERT INTO "releases" VALUES('rel_0123456789ab','app_0123456789ab',1,'v1',1795449600.5,'{"command":["httpd","-f","-p","8000"],"sandbox":{"image":"base","memory":512,"cpus":1,"disk":null,"processes":null,"writable":false,"pull":"missing","digest":"sha256:abababababababababababababababababababababababababababababababab","driver":null,"nested":false,"mounts":[],"name":null,"keep":false},"env":{"GREETING":"hello"},"cwd":null,"user":null,"expose":[{"number":8000,"protocol":"http","local":null}],"readiness":{"port":null,"interval":0.2,"timeout":30.0},"idle":60.0,"stop_after":null}');
INSERT INTO "releases" VALUES('rel_ba9876543210','app_0123456789ab',2,NULL,1795449600.5,'{"command":["httpd","-f","-p","8000"],"sandbox":{"image":"base","memory":512,"cpus":1,"disk":null,"processes":null,"writable":false,"pull":"missing","digest":"sha256:abababababababababababababababababababababababababababababababab","driver":null,"nested":false,"mounts":[],"name":null,"keep":false},"env":{"GREETING":"hello"},"cwd":null,"user":null,"expose":[{"number":8000,"protocol":"http","local":null}],"readiness":{"port":null,"interval":0.2,"timeout":30.0},"idle":60.0,"stop_after":null}');
INSERT INTO "instances" VALUES('0123456789ab','app_0123456789ab','rel_0123456789ab',NULL,1795449600.5,1795449601.5);
INSERT INTO "instances" VALUES('ba9876543210','app_0123456789ab','rel_ba9876543210',0,1795449600.5,1795449602.5);
INSERT INTO "local_ports" VALUES('app_0123456789ab',5432,40001);
COMMIT;
