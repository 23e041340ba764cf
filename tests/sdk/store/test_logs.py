"""Logs on disk: entries by line, bounded, numbered without gaps, and followed by anybody."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_sdk.model import LogEntry
from aegis_sdk.store import changes, owners, records
from aegis_sdk.store.logs import Log, segment, segments
from aegis_sdk.store.reader import LogReader
from tests.conftest import until

LINES = st.lists(st.sampled_from([b"\n", b"a", "ä€😀".encode(), b"\xff\0", b"x" * 20_000, b"y" * 16_384]), max_size=12)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "log"


def read(directory, **options):
    return list(LogReader(directory, **options))


def said(directory, **options):
    return [(entry.sequence, entry.source, entry.data) for entry in read(directory, **options)]


@given(LINES)
def test_counting_is_splitting(parts):
    """An entry is a line, or a piece of at most 16 KiB of one; to count them gives what splitting gives."""
    data = b"".join(parts)
    pieces = list(records.pieces(data))
    assert b"".join(pieces) == data
    assert records.count(data) == len(pieces)
    assert all(0 < len(piece) <= records.PIECE and b"\n" not in piece[:-1] for piece in pieces)


@given(LINES)
def test_records_are_read_as_they_were_written(parts):
    """Whatever a guest says, the line of the file says the same."""
    record = records.Record(sequence=7, time=1.5, source="stdout", data=b"".join(parts))
    line = record.encode()
    assert line.count(b"\n") == 1
    assert records.parse(line) == record


@given(st.lists(LINES, max_size=5))
def test_what_is_fed_in_any_pieces_comes_back(tmp_path_factory, fed):
    """All bytes come back in their order, each entry once."""
    directory = tmp_path_factory.mktemp("log")
    log = Log(directory)
    for parts in fed:
        log.feed("stdout", b"".join(parts))
    log.end()
    entries = read(directory)
    assert b"".join(entry.data for entry in entries) == b"".join(map(b"".join, fed))
    assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))


def test_a_character_is_not_cut(directory):
    """A long line of text is cut between its characters."""
    log = Log(directory)
    log.feed("stdout", "€".encode() * 20_000)
    log.end()
    assert all("\N{REPLACEMENT CHARACTER}" not in entry.text for entry in read(directory))


def test_unfinished_lines(directory):
    """A line is an entry when it is whole; one that is not, when its source pauses; sources are not mixed."""
    log = Log(directory)
    log.feed("stdout", b"pass")
    log.feed("stderr", b"warning\nmore")
    assert said(directory) == [(1, "stderr", b"warning\n")]
    log.feed("stdout", b"word: ")
    log.flush()
    assert said(directory, since=1) == [(2, "stdout", b"password: "), (3, "stderr", b"more")]
    log.say("it ends")
    log.end()
    assert said(directory, tail=1) == [(4, "system", b"it ends\n")]


def test_since_and_tail(directory):
    """since leaves out what was seen, tail what is too old; both together leave out both."""
    log = Log(directory)
    for number in range(1, 101):
        log.feed("stdout", b"%d\n" % number)
    log.end()
    assert [entry.sequence for entry in read(directory, since=97)] == [98, 99, 100]
    assert [entry.sequence for entry in read(directory, tail=2)] == [99, 100]
    assert [entry.sequence for entry in read(directory, since=99, tail=5)] == [100]
    assert [entry.sequence for entry in read(directory, since=10, tail=2)] == [99, 100]
    assert not read(directory, tail=0)
    assert not read(directory, since=100)
    assert not read(directory, since=10**6)


def _size(directory):
    return sum(path.stat().st_size for path in directory.iterdir())


def test_it_is_bounded_and_says_what_it_lost(directory):
    """A log keeps to its limit; what is gone is an entry, and the numbers go on without a gap."""
    log = Log(directory, limit=1 << 20)
    for number in range(40_000):
        log.feed("stdout", b"%099d\n" % number)
        if number % 1000 == 0:
            assert _size(directory) <= 1 << 20
    log.end()
    first, *rest = read(directory)
    assert first.source == "system"
    assert first.text.startswith(f"{first.sequence} entries are missing")
    assert [entry.sequence for entry in rest] == list(range(first.sequence + 1, 40_001))
    assert int(rest[0].text) == first.sequence


def test_a_follower_that_is_behind(directory):
    """Who follows slowly gets what its open file holds, then what is left, and is told what is not."""
    log = Log(directory, limit=1 << 20)
    log.feed("stdout", b"first\n")
    with LogReader(directory, follow=True) as reader:
        assert [entry.data for entry in reader.read()] == [b"first\n"]
        for _ in range(40):
            log.feed("stdout", b"x" * 99_999 + b"\n")
        log.end()
        entries = list(reader)
    sequences = [entry.sequence for entry in entries]
    missing = [entry for entry in entries if entry.source == "system"]
    assert sequences[0] == 2
    assert len(missing) == 1
    gap = sequences.index(missing[0].sequence)
    assert sequences[:gap] == list(range(2, gap + 2))
    assert f"{sequences[gap] - sequences[gap - 1]} entries are missing" in missing[0].text
    assert sequences[gap + 1 :] == list(range(sequences[gap] + 1, sequences[-1] + 1))


@pytest.fixture(params=["inotify", "timer"])
def kernel(request, monkeypatch):
    """What wakes followers: the timer where this user has no instance of inotify left."""
    if request.param == "timer":

        def none_left(libc, descriptor):
            os.close(descriptor)
            return changes._Timer(libc)

        monkeypatch.setattr(changes, "_Inotify", none_left)


def test_following(directory, kernel):
    """A follower has each entry when it is written, sleeps in between, and ends with the log."""
    log = Log(directory)
    heard: list[LogEntry] = []
    ended = threading.Event()

    def follow():
        heard.extend(LogReader(directory, follow=True))
        ended.set()

    threading.Thread(target=follow).start()
    for number in range(3):
        log.feed("stdout", b"%d\n" % number)
        assert not ended.wait(0.05)
    log.end()
    assert ended.wait(5)
    assert [entry.data for entry in heard] == [b"0\n", b"1\n", b"2\n"]


def test_a_follower_is_woken_by_the_kernel(directory):
    """Nothing is readable until something is written; then it is, also in the log's next file."""
    log = Log(directory, limit=1 << 16)
    with LogReader(directory, follow=True) as reader:
        for _ in range(5):
            assert not reader.read()
            assert not reader.wait(0)
            log.feed("stdout", b"x" * 9_999 + b"\n")
            assert reader.wait(5)
            assert len(reader.read()) == 1


WRITER = """
import os, sys
from pathlib import Path
from aegis_sdk.store.logs import Log
from aegis_sdk.store.owners import Owner
owner = Owner(Path(sys.argv[1]))
print(owner.path, flush=True)
log = Log(Path(sys.argv[2]))
number = 0
while True:
    number += 1
    log.feed("stdout", b"%d\\n" % number * 7)
"""


def test_a_writer_that_is_killed(directory, tmp_path):
    """Who follows a log whose writer is killed gets all that was written, and then its end."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "owners"), str(directory)]
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            owner = Path(writer.stdout.readline().strip())
            reader = LogReader(directory, follow=True, owner=owner)
            time.sleep(0.2)
            os.kill(writer.pid, signal.SIGKILL)
            entries = list(reader)
        assert not owners.lives(owner)
        sequences = [entry.sequence for entry in entries]
        assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))


def test_half_a_line(directory):
    """What a killed writer left of a line is skipped, and the next writer goes on behind it."""
    log = Log(directory)
    log.feed("stdout", b"one\ntwo\n")
    log.close()
    with segment(directory, segments(directory)[-1]).open("ab") as file:
        file.write(b'{"sequence":3,"time":1.0,"source":"stdout","te')
    assert len(read(directory)) == 2
    log = Log(directory)
    log.feed("stdout", b"three\n")
    log.end()
    assert said(directory) == [(1, "stdout", b"one\n"), (2, "stdout", b"two\n"), (3, "stdout", b"three\n")]


@pytest.mark.parametrize(
    "line",
    [
        b"\0\xff" * 99,
        b"[]",
        b"[" * 99_999,
        b'{"sequence":1e999,"time":1,"source":"stdout","text":"x"}',
        b'{"sequence":-5,"time":1,"source":"stdout","text":"x"}',
        b'{"sequence":1,"time":1e999,"source":"stdout","text":"x"}',
        b'{"sequence":1,"time":1,"source":5,"text":"x"}',
        b'{"sequence":1,"time":1,"source":"stdout","text":"\\ud800"}',
    ],
)
def test_what_is_damaged_is_left_out(directory, line):
    """A line that is no record, and a file that is none of the log's, keep nobody from reading or writing the rest."""
    directory.mkdir()
    (directory / "notes.ndjson").write_bytes(b"x")
    segment(directory, 1).write_bytes(line + b"\n")
    log = Log(directory)
    log.say("whole")
    log.end()
    assert said(directory) == [(1, "system", b"whole\n")]


def test_a_log_that_goes_on(directory):
    """A log that has ended may go on with another writer; who reads it reads all of it."""
    for word in (b"first\n", b"second\n"):
        log = Log(directory)
        log.feed("boot", word)
        log.end()
    assert said(directory) == [(1, "boot", b"first\n"), (2, "boot", b"second\n")]
    assert len(list(LogReader(directory, follow=True))) == 2


def test_a_log_that_cannot_be_written(directory, monkeypatch):
    """On a full disk a log loses entries, and says so; its writer goes on."""
    log = Log(directory)
    log.feed("stdout", b"one\n")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        log.feed("stdout", b"two\nthree\n")
    log.feed("stdout", b"four\n")
    log.end()
    entries = said(directory)
    assert [entry[0] for entry in entries] == [1, 3, 4]
    assert entries[1][1:] == ("system", b"2 entries are missing here: the log had no more room\n")


def test_an_owner(tmp_path):
    """An owner lives until it closes its claim, whoever else looks, and its file goes with it."""
    owner = owners.Owner(tmp_path / "owners")
    assert owners.lives(owner.path)
    owners.sweep(tmp_path / "owners")
    assert owners.lives(owner.path)
    owner.close()
    owner.close()
    assert not owners.lives(owner.path)
    assert not owner.path.exists()


def test_a_forked_child_is_no_owner(tmp_path):
    """A child that was forked has no part in its parent's claim."""
    script = (
        "import os, sys, time; from pathlib import Path; from aegis_sdk.store.owners import Owner\n"
        "owner = Owner(Path(sys.argv[1]))\n"
        "if os.fork() == 0: time.sleep(60)\n"
        "print(owner.path, flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "owners")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        path = Path(parent.stdout.readline().strip())
        try:
            assert owners.lives(path)
            os.kill(parent.pid, signal.SIGKILL)
            assert until(lambda: not owners.lives(path), 5)
        finally:
            os.killpg(parent.pid, signal.SIGKILL)
