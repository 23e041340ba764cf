"""How much layers may ask for: entries, bytes, memory and time."""

import tracemalloc

import pytest

from aegis_sdk.errors import ImageInvalid
from aegis_sdk.images.base import Entry, Kind
from aegis_sdk.images.layers import merge as merging
from aegis_sdk.images.layers import paths as looking_up
from aegis_sdk.images.tree import Metadata
from tests.sdk.layer_entries import hard, kept, link, merged, new, put


def many(count, path):
    same = Metadata()
    return (Entry(path=path % number, kind=Kind.FIFO, metadata=same) for number in range(count))


def test_too_many_entries():
    """Half a million entries are the most that an image may have, whiteouts among them."""
    merge = new()
    merge._entries = 400_000  # it would take the better part of a test's time to come so far
    with pytest.raises(ImageInvalid, match="more than 500,000 files and directories"):
        merge.apply(many(100_001, b".wh.%d"))


def test_entries_of_all_layers_count(monkeypatch):
    """The limit is that of the image, and one more than it is too many."""
    monkeypatch.setattr(merging, "MAX_ENTRIES", 1000)
    merge = merged(many(500, b"a%d"), many(500, b"a%d"))
    with pytest.raises(ImageInvalid, match="more than 1,000 files"):
        merge.apply(many(1, b"a%d"))


def test_too_many_parents(monkeypatch):
    """Directories that are only named as parents count, too."""
    monkeypatch.setattr(merging, "MAX_ENTRIES", 10_000)
    with pytest.raises(ImageInvalid, match="more than 10,000 files and directories"):
        new().apply(put(b"%d" % number + b"/d" * 2000, Kind.FIFO) for number in range(1000))


def test_too_much_to_hold(monkeypatch):
    """Attributes and targets cannot fill the memory."""
    monkeypatch.setattr(merging, "MAX_HELD", 4 << 20)
    for give in (
        lambda n: put(b"%d" % n, Kind.FIFO, xattrs={b"user.a": (b"%d" % n).ljust(60_000)}),
        lambda n: put(b"%d" % n, Kind.FIFO, xattrs={b"user.%d" % m: b"" for m in range(500)}),
        lambda n: link(b"%d" % n, (b"%d" % n).ljust(4095, b"x")),
    ):
        tracemalloc.start()
        try:
            with pytest.raises(ImageInvalid, match="more than 4 MiB"):
                new().apply(map(give, range(100_000)))
            assert tracemalloc.get_traced_memory()[1] < 2 * merging.MAX_HELD
        finally:
            tracemalloc.stop()


def test_too_large_files():
    """What files claim to hold is bounded before any of it is read, and what they really hold as well."""

    def never():
        raise AssertionError("it was read")
        yield b""

    with pytest.raises(ImageInvalid, match="more than 64 GiB"):
        new().apply([Entry(path=b"a", kind=Kind.FILE, content=never(), size=merging.MAX_SIZE + 1)])


def test_files_larger_than_they_say(monkeypatch):
    """A layer cannot hide from the limit what its files hold."""
    monkeypatch.setattr(merging, "MAX_SIZE", 1000)
    with pytest.raises(ImageInvalid, match="hold more than"):
        new().apply([Entry(path=b"a", kind=Kind.FILE, content=(bytes(1001),), size=1)])


def test_long_ways(monkeypatch):
    """Chains of symbolic links that make every path a long way are refused instead of followed for hours."""
    monkeypatch.setattr(looking_up, "STEPS_MAX", 100_000)

    def slow():
        yield link(b"l0", b"x/../" * 800 + b"y")
        for number in range(1, 200):
            yield link(b"l%d" % number, b"l%d" % (number - 1) + b"/x/.." * 600)
        for number in range(10_000):
            yield put(b"l199/%d/f" % number, Kind.FIFO)

    with pytest.raises(ImageInvalid, match="too long a way"):
        new().apply(slow())


def test_long_words_are_long_ways(monkeypatch):
    """Targets and paths of nothing but slashes and dots count by what it takes to read them."""
    monkeypatch.setattr(looking_up, "STEPS_MAX", 1_000_000)
    links = [link(b"l%d" % n, b"./" * 2040 + b"l%d" % (n + 1)) for n in range(100)]
    for layer in (
        [*links, *(put(b"l0/.wh.x") for _ in range(10))],
        [put(b"/./" * 1300 + b".wh.x") for _ in range(1000)],
        [put(b"a"), *(hard(b"b", b"./" * 2000 + b"a") for _ in range(1000))],
    ):
        with pytest.raises(ImageInvalid, match="too long a way"):
            new().apply(layer)


def test_what_is_remembered_of_long_paths():
    """Memory does not grow with the length of paths whose directories are there anyway."""
    deep = b"dd/" * 1300
    merge = merged([put(deep + b"x", Kind.FIFO)])
    tracemalloc.start()
    try:
        merge.apply(put(deep + b"%d/x" % n, Kind.FIFO) for n in range(300))
        assert tracemalloc.get_traced_memory()[0] < 300 * len(deep)
    finally:
        tracemalloc.stop()


def test_many_whiteouts_are_quick():
    """Opaque directories over and over, each with much in it, take no more than their number."""

    def layer(number):
        for n in range(3000):
            yield put(b"d/%d-%d" % (number, n), Kind.FIFO)
            yield put(b"d/.wh..wh..opq")
            yield put(b".wh.d")

    merge = merged(*map(layer, range(5)))
    assert len(kept(merge)) == 3002
