"""The records of a home, used by whole processes at once, on disks that fail, and by programs that are killed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

import aegis_sdk as aegis
from aegis_sdk.engine.local import LocalEngine
from aegis_sdk.store import migrations
from tests.sdk.image_blobs import unprivileged
from tests.sdk.store.homes import change, engine_at, in_a_child, sound

PROCESSES = 16


def test_a_home_begins_with_nothing(local, empty):
    """Where nothing is on record there is nothing, and the records are for nobody but this user."""
    assert (local.apps.list(), local.secrets.list(app=None)) == ((), ())
    assert stat.S_IMODE(empty.stat().st_mode) == 0o700
    assert stat.S_IMODE((empty / "data").stat().st_mode) == 0o700


@pytest.mark.parametrize("keeps", [False, True], ids=["in process", "daemon's"])
def test_a_home_that_is_deleted(empty, keeps):
    """Who deletes a home under a running engine has one that starts from nothing."""
    with closing(engine_at(empty, keeps=keeps)) as local:
        use_deleted(local, empty)


def use_deleted(local: LocalEngine, empty: Path) -> None:
    local.apps.create("web", aegis.AppSpec())
    local.secrets.set("KEY", b"1", app="web")
    shutil.rmtree(empty)
    assert local.apps.list() == ()
    assert local.secrets.set("KEY", b"2", app=None).name == "KEY"
    assert [app.name for app in (local.apps.create("web", aegis.AppSpec()), *local.apps.list())] == ["web", "web"]
    assert local.secrets.environment("web") == {"KEY": "2"}


def test_records_that_are_held_open(empty):
    """An engine that stays, as the daemon's, writes what others read at once, and the other way round."""
    with closing(engine_at(empty, keeps=True)) as local:
        other = engine_at(empty)
        for number in range(3):
            local.apps.create(f"a{number}", aegis.AppSpec())
            assert other.apps.get(f"a{number}") == local.apps.get(f"a{number}")
            other.apps.delete(f"a{number}", workspace=False)
            assert local.apps.list() == ()
    assert sorted(path.name for path in (empty / "data").glob("aegis.db*")) == ["aegis.db"]


@pytest.mark.timeout(120)
def test_many_processes_create_and_delete(empty):
    """Sixteen processes create and delete at once: each gets what it asked for, and what is left is what was kept."""
    script = (
        "import sys, aegis_sdk as aegis\n"
        "from tests.sdk.store.homes import engine_at\n"
        "local, me = engine_at(sys.argv[1]), sys.argv[2]\n"
        "for turn in range(3):\n"
        "    app = local.apps.create(f'app-{me}-{turn}', aegis.AppSpec()).id\n"
        "    local.secrets.set('KEY', f'{me}-{turn}'.encode(), app=app)\n"
        "    assert local.secrets.environment(app) == {'KEY': f'{me}-{turn}'}\n"
        "    if turn: local.apps.delete(app, workspace=True)\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(empty), str(number)], stderr=subprocess.PIPE)
        for number in range(PROCESSES)
    ]
    said = [process.communicate()[1] for process in started]
    assert not any(process.returncode for process in started), said
    local = engine_at(empty)
    assert sorted(app.name for app in local.apps.list()) == sorted(f"app-{n}-0" for n in range(PROCESSES))
    for number in range(PROCESSES):
        assert local.secrets.environment(f"app-{number}-0") == {"KEY": f"{number}-0"}
    assert sound(empty)


def test_one_name_for_one_of_many(local):
    """Of many threads that want one name for a new app, one gets it, and each other is told."""
    barrier = threading.Barrier(8)

    def create(_: int) -> bool:
        barrier.wait()
        try:
            local.apps.create("web", aegis.AppSpec())
        except aegis.NameTaken:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(create, range(8))) == [False] * 7 + [True]


def test_a_forked_child(local):
    """A child that was forked uses its parent's engine, and both see what the other wrote."""
    local.apps.create("before", aegis.AppSpec())
    assert in_a_child(lambda: local.apps.create("child", aegis.AppSpec())) == 0
    local.apps.create("after", aegis.AppSpec())
    assert [app.name for app in local.apps.list()] == ["after", "before", "child"]


@pytest.mark.timeout(60)
def test_what_was_acknowledged_is_kept(empty):
    """A program that is killed has on record whatever it was told is there, and the records are whole."""
    script = (
        "import sys, aegis_sdk as aegis\n"
        "from tests.sdk.store.homes import engine_at\n"
        "local = engine_at(sys.argv[1])\n"
        "for number in range(10**6):\n"
        "    local.apps.create(f'{sys.argv[2]}-{number}', aegis.AppSpec())\n"
        "    print(number, flush=True)\n"
    )
    for life in range(3):
        command = [sys.executable, "-c", script, str(empty), str(life)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            for _ in range(20 + life):
                process.stdout.readline()
            process.kill()
            last = max(map(int, process.stdout.read().split()), default=19 + life)
        kept = {app.name for app in engine_at(empty).apps.list()}
        assert {f"{life}-{number}" for number in range(last + 1)} <= kept
        assert sound(empty)


@pytest.mark.parametrize("damage", [b"gurk" * 2000, b"SQLite format 3\0" + b"\xff" * 9000], ids=["other", "torn"])
def test_a_damaged_file(local, empty, damage):
    """Records that are none are an error that names the file, and says how to begin anew; which then works."""
    file = empty / "data" / "aegis.db"
    file.parent.mkdir(parents=True)
    file.write_bytes(damage)
    with pytest.raises(aegis.StoreFailed, match=str(file)) as caught:
        local.apps.list()
    command = caught.value.hint.split("`")[1]
    subprocess.run(command, shell=True, check=True)
    assert local.apps.list() == ()
    assert (file.parent / "broken" / file.name).read_bytes() == damage


def test_a_damaged_page(local, empty):
    """The doctor finds damage that a glance does not."""
    for number in range(200):
        local.apps.create(f"app-{number}", aegis.AppSpec())
    with (empty / "data" / "aegis.db").open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 2)
    (check,) = (check for check in local.check() if check.name == "records")
    assert (check.ok, check.required) == (False, True)
    assert "mv " in check.fix


def test_records_of_a_newer_aegis(local, empty):
    """Records that a newer Aegis wrote are left alone, and the error says who can read them."""
    local.apps.create("web", aegis.AppSpec())
    newer = len(migrations.MIGRATIONS) + 1
    change(empty, f"PRAGMA user_version = {newer}")
    with pytest.raises(aegis.StoreFailed, match=f"schema {newer}") as caught:
        local.apps.create("other", aegis.AppSpec())
    assert "newer" in caught.value.hint
    change(empty, f"PRAGMA user_version = {newer - 1}")
    assert [app.name for app in local.apps.list()] == ["web"]


def test_another_program_holds_the_records(local, empty, monkeypatch):
    """Who cannot write for long because of another program is told so; who reads is not kept."""
    local.apps.create("web", aegis.AppSpec())
    monkeypatch.setattr("aegis_sdk.store.database._BUSY", 0.2)
    with sqlite3.connect(empty / "data" / "aegis.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(aegis.StoreFailed, match="locked") as caught:
            local.apps.create("other", aegis.AppSpec())
        assert "fuser" in caught.value.hint
        assert [app.name for app in local.apps.list()] == ["web"]
        other.execute("ROLLBACK")
    other.close()


def test_a_home_that_cannot_be_written(local, empty):
    """Records in a directory that this user may not write to are an error with words, and so is a home there."""
    local.apps.create("web", aegis.AppSpec())
    for path in (empty, *empty.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with unprivileged(empty / "data"):
        for home in (empty, empty / "below"):
            with pytest.raises(aegis.StoreFailed) as caught:
                engine_at(home).apps.create("other", aegis.AppSpec())
            assert "AEGIS_HOME" in caught.value.hint
    for path in (empty, empty / "data"):
        path.chmod(0o700)


def fill(local: LocalEngine) -> None:
    """Have more than half a megabyte on record."""
    for number in range(10):
        local.secrets.set(f"KEY_{number}", b"x" * 60_000, app=None)


def test_a_full_disk(local, empty):
    """A write for which there is no room fails in words, what was there before stays, and with room all works again."""
    empty.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", empty], check=True)
    try:
        local.apps.create("web", aegis.AppSpec())
        local.secrets.set("KEY", b"1", app="web")
        with pytest.raises(aegis.StoreFailed, match="full") as caught:
            fill(local)
        assert "free some space" in caught.value.hint
        assert local.secrets.environment("web")["KEY"] == "1"
        subprocess.run(["mount", "-o", "remount,size=8m", empty], check=True)
        fill(local)
        assert sound(empty)
    finally:
        subprocess.run(["umount", empty], check=True)


def test_no_descriptor_stays_open(local):
    """An engine that is not closed keeps no file of its home open."""
    before = len(os.listdir("/proc/self/fd"))
    local.apps.create("web", aegis.AppSpec())
    local.secrets.set("KEY", b"1", app="web")
    local.secrets.environment("web")
    assert len(os.listdir("/proc/self/fd")) == before
