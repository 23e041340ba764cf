"""Several threads and processes want one blob, and one of them fetches it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aegis_sdk.images.registry import blobs as blobs_module
from tests.sdk.registry.one_blob import DATA, DIGEST, NAME, Cancelled, Source, Stream, get, read


def test_two_threads_download_once(blobs):
    """Of two threads that want one blob, one downloads; the other waits, is told how far it is, and finds it."""
    begun, go_on = threading.Event(), threading.Event()
    source, seen = Source(), list[int]()

    def slow(start: int) -> Stream:
        for offset, data in source(start):
            yield offset, data
            if offset == 3000:
                begun.set()
                assert go_on.wait(10)

    first = threading.Thread(target=lambda: get(blobs, slow))
    first.start()
    assert begun.wait(10)
    second = threading.Thread(target=lambda: get(blobs, source, seen.append))
    second.start()
    time.sleep(0.2)
    assert 4000 in seen
    go_on.set()
    first.join()
    second.join()
    assert source.starts == [0]
    assert seen[-1] == len(DATA)


def test_finished_by_another_meanwhile(blobs, monkeypatch):
    """A blob that another one finishes just before our download begins is not downloaded again."""
    open_partial = blobs_module._open_partial

    def late(path: Path) -> int:
        blobs.path(DIGEST).write_bytes(DATA)
        return open_partial(path)

    monkeypatch.setattr(blobs_module, "_open_partial", late)
    source = Source()
    get(blobs, source)
    assert source.starts == []
    assert os.listdir(blobs.directory) == [NAME]


def test_who_waits_may_give_up(blobs):
    """What *report* raises while another one downloads ends the wait, and harms nobody."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(start: int) -> Stream:
        begun.set()
        assert go_on.wait(10)
        yield from Source()(start)

    def give_up(_count: int) -> None:
        raise Cancelled

    first = threading.Thread(target=lambda: get(blobs, slow))
    first.start()
    assert begun.wait(10)
    with pytest.raises(Cancelled):
        get(blobs, Source(), give_up)
    go_on.set()
    first.join()
    assert read(blobs) == DATA


def test_a_killed_process_is_no_obstacle(blobs):
    """A process killed in the middle leaves no lock: the next one goes on from what it had written."""
    script = f"""
import sys, time
from pathlib import Path
from aegis_sdk.images.registry.blobs import Blobs
def pieces(start):
    yield 0, bytes(range(256)) * 8
    print("begun", flush=True)
    time.sleep(60)
Blobs(Path({str(blobs.directory)!r})).get({DIGEST!r}, size={len(DATA)}, pieces=pieces, report=lambda count: None)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"begun\n"
        process.kill()
    source = Source()
    get(blobs, source)
    assert source.starts == [2048]
    assert read(blobs) == DATA


def test_removing_while_others_wait(blobs):
    """Blobs and partial files that are removed at any moment never break who wants them."""
    ended = threading.Event()
    failed: list[BaseException] = []

    def want() -> None:
        try:
            while not ended.is_set():
                get(blobs, Source())
        except BaseException as error:  # noqa: BLE001  # any at all
            failed.append(error)

    threads = [threading.Thread(target=want) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        blobs.remove(DIGEST)
        blobs.discard_partials(unchanged_for=0)
        time.sleep(0.005)
    ended.set()
    for thread in threads:
        thread.join()
    assert not failed
    get(blobs, Source())
    assert os.listdir(blobs.directory) == [NAME]
