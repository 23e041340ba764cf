"""Records that an older Aegis wrote are taken over, whichever it was."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

import aegis_sdk as aegis
from aegis_sdk.store.database import Database
from aegis_sdk.store.instances import InstanceRecords
from aegis_sdk.store.migrations import MIGRATIONS
from aegis_sdk.store.releases import ReleaseRecords
from tests.sdk.store.dump import GOLDEN, load, made_by, schema
from tests.sdk.store.homes import engine_at, in_a_child, killed_at, sound

DEFAULT = aegis.AppSpec()
VERSIONS = range(1, len(MIGRATIONS) + 1)


@pytest.fixture(params=VERSIONS)
def version(request) -> int:
    """Each schema that there was."""
    there = (GOLDEN / f"{request.param}.sql").exists()
    assert there, "a schema without a dump: `python -m tests.sdk.store.dump` writes it; add rows to what is new"
    return int(request.param)


@pytest.fixture
def old(version: int, empty: Path) -> Path:
    """A home with records of that schema, and its database."""
    file = empty / "data" / "aegis.db"
    file.parent.mkdir(parents=True)
    load(version, file)
    (empty / "master.key").write_bytes((GOLDEN / "master.key").read_bytes())
    (empty / "master.key").chmod(0o600)
    return file


def test_what_was_released_stays_as_it_is(version, old, empty):
    """The steps up to a schema still make that very schema."""
    made_by(version, empty / "made")
    assert schema(empty / "made") == schema(old)


def test_upgrade(old, empty):
    """Records of each older schema become those of the newest: the same tables, and all that was on record."""
    with closing(engine_at(empty, keeps=True)) as local:
        assert [(app.name, app.spec) for app in local.apps.list()] == [("web", DEFAULT), ("worker", DEFAULT)]
        assert local.secrets.environment("web") == {"API_KEY": "für the app", "EMPTY": ""}
        assert local.secrets.environment("worker") == {"API_KEY": "for all", "EMPTY": ""}
        assert [(kept.name, kept.image) for kept in local.sandboxes()] == [("dev", "base")]
        assert [(task.id, task.state, task.command) for task in local.tasks.list()] == [
            ("0123456789ab", "SUCCEEDED", ("true",)),
            ("ba9876543210", "FAILED", ("sh", "-c", "echo ä")),
        ]
    fresh = empty / "fresh"
    engine_at(fresh).apps.list()
    assert schema(old) == schema(fresh / "data" / "aegis.db")
    assert sound(empty)


def test_releases_and_instances_are_kept(old, version, empty):
    """Since the second schema there are releases, what serves, and the ports of this machine that lead there."""
    records = Database(old)
    releases, instances = ReleaseRecords(records), InstanceRecords(records)
    found = [(release.number, release.label) for release in releases.all("app_0123456789ab")]
    if version < 2:
        assert (found, instances.served()) == ([], ())
    else:
        assert found == [(1, "v1"), (2, None)]
        assert [instance.release for instance in instances.served()] == ["rel_ba9876543210"]
        assert instances.local_port("app_0123456789ab", 5432) == 40001


ONE_MORE = (
    "ALTER TABLE apps ADD COLUMN more TEXT",
    "CREATE TABLE more (id TEXT PRIMARY KEY) STRICT",
    "UPDATE apps SET more = name",
)


def test_an_upgrade_that_is_killed(old, version, empty, monkeypatch):
    """An upgrade is done whole or not at all: killed at whichever line, it leaves the records as they were."""
    before, local = schema(old), engine_at(empty)
    monkeypatch.setattr("aegis_sdk.store.database.MIGRATIONS", (*MIGRATIONS, ONE_MORE))
    step = 1
    while (code := in_a_child(partial(killed_at, step, local.apps.list))) != 0:
        assert code == -signal.SIGKILL
        if number(old) == version:
            assert schema(old) == before
        step += 1
    assert step > 20
    assert number(old) == len(MIGRATIONS) + 1
    assert [app.name for app in local.apps.list()] == ["web", "worker"]


def test_a_table_that_is_replaced(old, empty, monkeypatch):
    """A step may put a table in another's place: what refers to its rows stays."""
    columns = "id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created REAL NOT NULL, spec TEXT NOT NULL"
    replaced = (
        f"CREATE TABLE new_apps ({columns}) STRICT",
        "INSERT INTO new_apps SELECT id, name, created, spec FROM apps",
        "DROP TABLE apps",
        "ALTER TABLE new_apps RENAME TO apps",
    )
    monkeypatch.setattr("aegis_sdk.store.database.MIGRATIONS", (*MIGRATIONS, replaced))
    local = engine_at(empty)
    assert local.secrets.environment("web")["API_KEY"] == "für the app"
    local.apps.delete("web", workspace=False)
    assert sound(empty)
    with pytest.raises(aegis.AppNotFound):
        local.secrets.set("API_KEY", b"", app="web")


def number(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)
