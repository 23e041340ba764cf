"""What the cache gives back, when, and what it never does: images in use, and what it does not know."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress

import pytest

import aegis_sdk as aegis
from tests.sdk.cache.shelf import Sheet, discard, disk_of, files_in, opened, pulled


def test_an_image_in_use_stays(cache, shelf):
    """What a sandbox boots from is neither removed nor pruned; afterwards it is."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    with opened(cache, "a") as image:
        with pytest.raises(aegis.ImageInUse, match="shelf/a"):
            discard(cache, "a")
        assert cache.prune(older_than=None, unused=True).images == ()
        assert image.disk.path.exists()
    assert cache.prune(older_than=None, unused=True).images == ("shelf/a",)
    assert files_in(cache) == set()


def test_what_a_tag_no_longer_means_is_collected(cache, shelf):
    """When a name comes to stand for another image, nothing of the former one stays, unless it is in use."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    with opened(cache, "a") as image:
        shelf.images["a"] = (Sheet(text=b"2"),)
        pulled(cache, "a", "always")
        assert image.disk.path.exists()
    assert len(list(cache._disks.names())) == 2
    assert cache.prune(older_than=None, unused=False).bytes > 0
    assert len(list(cache._disks.names())) == 1
    shelf.images["a"] = (Sheet(text=b"3"),)
    pulled(cache, "a", "always")
    assert len(list(cache._disks.names())) == 1


def test_pruning_by_age(cache, shelf):
    """What was used lately stays, what was not is removed."""
    shelf.images |= {"old": (Sheet(text=b"1"),), "new": (Sheet(text=b"2"),)}
    pulled(cache, "old")
    pulled(cache, "new")
    long_ago = time.time() - 1000
    os.utime(cache._references._path("shelf/old"), (long_ago, long_ago))
    assert cache.prune(older_than=500, unused=False).images == ("shelf/old",)
    assert [info.reference for info in cache.all()] == ["shelf/new"]


def test_what_killed_processes_left_is_swept(cache, shelf):
    """Half-made things of processes that were killed do not hinder, and a pruning takes them away."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    pulled(cache, "a")
    whole = files_in(cache)
    root = cache._disks.directory.parent
    (root / "references" / "tmpx.partial").write_text("{")
    (root / "references" / "0.json").write_text("[]")
    (root / "disks" / ("f" * 64)).mkdir()
    (root / "disks" / ("f" * 64) / ".partial").write_bytes(bytes(9))
    assert pulled(cache, "a").reference == "shelf/a"
    cache.prune(older_than=None, unused=False)
    assert files_in(cache) == whole


def test_a_failed_making_leaves_nothing(cache, shelf):
    """An image whose layers turn out to be wrong leaves no disk and no name, and the next try is free of it."""

    class Broken(Sheet):
        def entries(self):
            yield from super().entries()
            raise aegis.ImageInvalid("the layer is torn")

    shelf.images["a"] = (Broken(text=b"1"),)
    with pytest.raises(aegis.ImageInvalid, match="the layer is torn"):
        pulled(cache, "a")
    assert files_in(cache) == set()
    shelf.images["a"] = (Sheet(text=b"1"),)
    assert pulled(cache, "a").disk_bytes > 0


def test_removing_and_pulling_at_once(cache, shelf):
    """While one keeps removing an image, another can keep booting from it."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    over = threading.Event()

    def remove() -> None:
        while not over.is_set():
            with suppress(aegis.ImageInUse, aegis.ImageNotFound):
                discard(cache, "a")

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(100):
            with opened(cache, "a") as image:
                assert image.disk.path.stat().st_nlink == 1
    finally:
        over.set()
        thread.join()


def test_what_is_unknown_is_not_collected(cache, shelf):
    """While a record is of a later version, nothing that it may need is removed; its own file stays, too."""
    shelf.images |= {"a": (Sheet(text=b"1"),), "b": (Sheet(text=b"2"),)}
    pulled(cache, "a")
    disk = disk_of(cache, "b")
    record = cache._references._path("shelf/b")
    record.write_text(record.read_text().replace('"version": 1', '"version": 99'))
    discard(cache, "a")
    cache.prune(older_than=None, unused=True)
    assert disk.exists()
    assert record.exists()
