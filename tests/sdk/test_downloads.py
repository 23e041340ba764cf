"""How layers come: several at a time, while others are read; and how that ends."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import attrs
import pytest

from aegis_sdk.errors import ImageInvalid, RegistryFailed
from aegis_sdk.images.base import Entry, Kind
from aegis_sdk.images.layers import disk
from aegis_sdk.images.layers.tar import TarLayer
from aegis_sdk.model import Progress
from tests.sdk.tars import hardlink, layer, member, written

#: A pull in a thread of its own, whose layers never come, by a program that ends.
ENDING = """
import io, threading, time
from aegis_sdk.images.layers.disk import write

class Endless:
    digest, size = "sha256:" + "0" * 64, 1
    def fetch(self, report):
        begun.set()
        time.sleep(60)

begun = threading.Event()
threading.Thread(target=write, args=(io.BytesIO(), [Endless()] * 6, lambda _: None), daemon=True).start()
begun.wait()
"""


@attrs.define(eq=False)
class Slow:
    """A layer whose fetch does as it is told, and then is that of a tar."""

    act: Callable[..., object]
    tar: TarLayer = attrs.field(factory=lambda: layer(member(b"a", data=b"x" * 100)))
    ended: BaseException | None = None

    @property
    def digest(self):
        return self.tar.digest

    @property
    def size(self):
        return self.tar.size

    def fetch(self, report):
        try:
            self.act(report)
        except BaseException as error:
            self.ended = error
            raise

    def entries(self):
        return self.tar.entries()


def forever(report):
    """Bytes that come slowly, and never end."""
    for done in range(100_000):
        report(done)
        time.sleep(0.01)


def test_four_layers_at_once():
    """Four layers are fetched at a time, no more, and all are in the disk in their order."""
    now, most, lock = [0], [0], threading.Lock()
    together = threading.Barrier(4)

    def act(_report):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait(10)
        with lock:
            now[0] -= 1

    tars = [layer(member(b"name", data=b"%d" % number)) for number in range(8)]
    assert written(*(Slow(act, tar) for tar in tars)) == written(*tars)
    assert most == [4]


def test_layers_are_read_while_others_come():
    """A layer is unpacked as soon as it and those below are here."""
    unpacked = threading.Event()

    def progress(said):
        if said.step == "unpack" and said.number == 1:
            unpacked.set()

    written(
        Slow(lambda _: None), Slow(lambda _: unpacked.wait(10) or pytest.fail("it came too late")), progress=progress
    )
    assert unpacked.is_set()


def fail(error):
    def act(_report):
        time.sleep(0.1)
        raise error

    return act


def test_failed_fetch_ends_the_others():
    """When one layer cannot be had, the others are given up at once, and its error is what the caller sees."""
    others = [Slow(forever), Slow(forever)]
    start = time.monotonic()
    with pytest.raises(RegistryFailed, match="the registry is gone"):
        written(others[0], Slow(fail(RegistryFailed("the registry is gone"))), others[1])
    assert time.monotonic() - start < 2
    assert all(other.ended and not isinstance(other.ended, Exception) for other in others)


def test_failed_layer_ends_the_fetches():
    """When a layer is broken, what still comes is given up at once."""
    begun = threading.Event()

    def begin(report):
        begun.set()
        forever(report)

    other = Slow(begin)
    with pytest.raises(ImageInvalid, match="layer 1 of 2"):
        written(Slow(lambda _: begun.wait(10), layer(hardlink(b"a", b"b"))), other)
    assert other.ended


def test_reading_says_which_layer():
    """When layers are only read, what is wrong with one is said with which it is."""
    torn = attrs.evolve(layer(member(b"a")), digest=f"sha256:{'0' * 64}")
    with pytest.raises(ImageInvalid, match=r"^layer 2 of 2: its content is not"):
        disk.read([layer(member(b"b")), torn], lambda _: None)


def test_fetches_end_a_long_layer():
    """A failed fetch is seen before the layer below has been read, and is not hidden by those that it ends."""

    class Endless(Slow):
        def entries(self):
            while True:
                time.sleep(0.3)
                yield Entry(path=b"a", kind=Kind.FIFO)

    with pytest.raises(RegistryFailed, match="gone"):
        written(Endless(lambda _: None), Slow(fail(RegistryFailed("gone"))), Slow(forever), Slow(forever))


@pytest.mark.parametrize("step", ["fetch", "unpack"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, BrokenPipeError])
def test_interrupted(step, error):
    """Ctrl-C, or a progress callback that fails, ends everything and comes through as it is."""

    def progress(said):
        if said.step == step:
            raise error("enough")

    other = Slow(forever)
    with pytest.raises(error, match="enough"):
        written(layer(member(b"a")), other, progress=progress)


def test_a_program_ends_while_layers_come():
    """A program that ends does not wait for layers that nobody waits for any more."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-c", ENDING], check=True, timeout=15)
    assert time.monotonic() - begin < 10


def test_no_thread_to_be_had(monkeypatch):
    """When the system gives no more threads, those that there are end, and its error comes through."""
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def limited(thread):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RuntimeError, match="can't start"):
        written(Slow(forever), Slow(forever))
    assert not started[0].is_alive()


def test_progress():
    """Each layer is said to be downloaded and unpacked, from nothing to all of it, by one call at a time."""
    said: list[Progress] = []
    busy = threading.Lock()

    def progress(one):
        assert busy.acquire(blocking=False)
        said.append(one)
        time.sleep(0.001)
        busy.release()

    layers = [layer(member(b"%d" % number, data=b"x" * 100_000 * number)) for number in range(1, 6)]
    written(*layers, progress=progress)
    for number, one in enumerate(layers, 1):
        for step, size in (("fetch", one.size), ("unpack", 100_000 * number)):
            told = [p for p in said if (p.number, p.step) == (number, step)]
            assert {(p.layer, p.layers) for p in told} == {(one.digest, 5)}
            assert [p.done for p in told] == sorted(p.done for p in told)
            assert (told[0].done, told[-1].done, told[-1].total) == (0, size, size)
            assert {p.total for p in told[:-1]} <= {one.size if step == "fetch" else None}


def test_progress_is_seldom():
    """A layer that reports each packet does not flood whoever listens."""
    said: list[Progress] = []
    written(Slow(lambda report: [report(done) for done in range(100_000)] and None), progress=said.append)
    assert len(said) < 40
