"""A new key for all secrets, whatever ends it in the middle and whoever sets one meanwhile."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import aegis_sdk as aegis
from aegis_sdk.engine.secrets import LocalSecrets
from aegis_sdk.store.secrets import SecretRecords
from aegis_sdk.store.vault import Key, KeyFile
from tests.sdk.store.homes import engine_at, in_a_child, killed_at, sound

VALUES = {"ONE": "1" * 20, "TWO": "2" * 20, "THREE": ""}


@pytest.fixture
def empty() -> Iterator[Path]:
    """A home in memory: what a kill leaves is the same there, and hundreds of rotations wait for no disk."""
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory) / "home"


@pytest.fixture
def filled(local):
    """An engine with an app and its secrets."""
    local.apps.create("web", aegis.AppSpec())
    for name, value in VALUES.items():
        local.secrets.set(name, value.encode(), app="web" if name == "ONE" else None)
    return local


def keys(home: Path) -> list[str]:
    return (home / "master.key").read_text().splitlines()[1:]


def test_a_new_key(filled, empty):
    """After a rotation every secret is what it was, and the old key is nowhere."""
    (before,) = keys(empty)
    assert filled.secrets.rotate_key() == 3
    (after,) = keys(empty)
    assert before != after
    assert filled.secrets.environment("web") == VALUES
    assert sorted(os.listdir(empty)) == ["data", "master.key"]


def test_without_secrets(local, empty):
    """Where there are no secrets, there is a new key, too."""
    assert local.secrets.rotate_key() == 0
    first = keys(empty)
    assert local.secrets.rotate_key() == 0
    assert keys(empty) != first


@pytest.mark.timeout(120)
def test_killed_at_each_line(filled, empty):
    """Killed at whichever line, a rotation leaves every secret readable, also for who sets one and rotates after it."""
    filled.secrets.environment("web")  # all that is imported late is there before the children are
    step, now = 1, VALUES
    while (code := in_a_child(partial(killed_at, step, filled.secrets.rotate_key))) != 0:
        assert code == -signal.SIGKILL
        if step % 3 == 0:
            filled.secrets.records._forget_old_keys()  # as another one does that had come so far before this one
        assert filled.secrets.environment("web") == now, step
        now = {**VALUES, "TWO": f"after {step}"}
        filled.secrets.set("TWO", now["TWO"].encode(), app=None)
        if step % 3 == 1:
            assert filled.secrets.rotate_key() == 3
            assert len(keys(empty)) == 1
        assert filled.secrets.environment("web") == now, step
        assert len(keys(empty)) <= 3
        step += 1
    assert step > 60
    assert filled.secrets.environment("web") == now
    assert sound(empty)


class RotatedMeanwhile(KeyFile):
    """A key file that somebody rotates whenever it is about to be read, if the records let them."""

    def read(self) -> tuple[Key, ...]:
        with suppress(aegis.StoreFailed):
            engine_at(self.path.parent).secrets.rotate_key()
        return super().read()


def test_rotated_while_somebody_reads(filled, empty, monkeypatch):
    """Who reads secrets while their key is replaced gets them."""
    monkeypatch.setattr("aegis_sdk.store.database._BUSY", 0.05)
    records = SecretRecords(filled.secrets.records.database, RotatedMeanwhile(empty / "master.key"))
    before = keys(empty)
    assert LocalSecrets(records).environment("web") == VALUES
    assert keys(empty) != before


WRITER = """
import sys
from tests.sdk.store.homes import engine_at
secrets = engine_at(sys.argv[1]).secrets
number = 0
print(flush=True)
while sys.stdin.readline():
    number += 1
    secrets.set("TWO", str(number).encode(), app=None)
    print(number, flush=True)
"""
ROTATOR = """
import sys
from tests.sdk.store.homes import engine_at
while True:
    assert engine_at(sys.argv[1]).secrets.rotate_key() == 3
    print(flush=True)
"""


@contextmanager
def started(script: str, home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program of its own, which is killed when the block is left."""
    words = [sys.executable, "-c", script, str(home)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        try:
            process.stdout.readline()  # it is at work
            yield process
        finally:
            process.kill()


@pytest.mark.timeout(120)
def test_rotated_and_killed_while_others_set_and_read(filled, empty):
    """While processes rotate the key and are killed for it, each value that another one has set is there at once."""
    numbers = itertools.count(1)
    with started(WRITER, empty) as writer, started(ROTATOR, empty):
        for _ in range(3):
            with started(ROTATOR, empty) as other:
                for number in itertools.islice(numbers, random.randrange(2, 6)):
                    writer.stdin.write(b"\n")
                    assert int(writer.stdout.readline()) == number
                    assert filled.secrets.environment("web") == {**VALUES, "TWO": str(number)}
                assert other.poll() is None, "it has failed"
    assert filled.secrets.rotate_key() == 3
    assert filled.secrets.environment("web")["TWO"] == str(next(numbers) - 1)
    assert len(keys(empty)) == 1
    assert sound(empty)
