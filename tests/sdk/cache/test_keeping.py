"""Images that are kept for somebody: they stay whatever becomes of their names."""

from __future__ import annotations

from contextlib import closing

import pytest

import aegis_sdk as aegis
from aegis_sdk.images.cache import ImageCache
from tests.sdk.cache.shelf import Sheet, Shelf, discard, files_in, opened, pulled

V1, V2 = Sheet(text=b"1"), Sheet(text=b"2")


@pytest.fixture
def digest(cache: ImageCache, shelf: Shelf) -> str:
    """That of an image that is kept, whose name means another one by now."""
    shelf.images["a"] = (V1,)
    with opened(cache, "a") as image:
        cache.keep(image, "rel_1", owner="here", why="release v1 of app web")
    shelf.images["a"] = (V2,)
    assert pulled(cache, "a", "always").digest != image.record.digest
    return image.record.digest


def boots(cache: ImageCache, digest: str) -> bool:
    """Whether that very image can be had, and its disk is there."""
    with closing(cache.open_kept("a", digest=digest)) as image:
        return image.record.digest == digest and image.disk.path.exists()


def test_a_name_that_moves_on(cache, digest):
    """What is kept is opened by its digest; what the name means now is the other one, before and after."""
    now = cache.get("a").digest
    assert boots(cache, digest)
    assert boots(cache, now)
    assert cache.get("a").digest == now


def test_pruning_leaves_it(cache, digest):
    """No pruning takes it, also where its name is gone with the image that this came to mean."""
    assert cache.prune(older_than=None, unused=True).images == ("shelf/a",)
    assert cache.prune(older_than=0, unused=True).bytes == 0
    assert boots(cache, digest)


def test_its_own_name_is_not_removed(cache, shelf):
    """While its name still means it, who removes that hears who needs it; a pruning leaves that, too."""
    shelf.images["a"] = shelf.images["b"] = (V1,)
    with opened(cache, "a") as image:
        cache.keep(image, "rel_1", owner="here", why="release v1 of app web")
    pulled(cache, "b")
    discard(cache, "b")  # it has another name
    with pytest.raises(aegis.ImageInUse, match="release v1 of app web needs shelf/a"):
        discard(cache, "a")
    assert cache.prune(older_than=None, unused=True).images == ()
    cache.let_go(["rel_1"])
    discard(cache, "a")
    assert files_in(cache) == set()


def test_letting_it_go(cache, digest):
    """It stays for as long as anybody needs it, and what it took is free when nobody does."""
    with closing(cache.open_kept("a", digest=digest)) as image:
        cache.keep(image, "rel_2", owner="there", why="release v2 of app web")
    cache.let_go(["rel_1", "rel_0"])
    assert boots(cache, digest)
    cache.let_go(["rel_2"])
    with pytest.raises(aegis.ImageNotFound, match="another image by now"):
        boots(cache, digest)
    assert len(list(cache._disks.names())) == 1


def test_who_keeps_it(cache, digest):
    """Each owner's wishes are told apart, and one that has only just come up is left alone."""
    with closing(cache.open_kept("a", digest=digest)) as image:
        cache.keep(image, "rel_2", owner="there", why="release v2 of app web")
        assert cache.kept_by("here") == set()
    assert cache.kept_by("here") == {"rel_1"}
    assert cache.kept_by("there") == {"rel_2"}


def test_a_disk_that_is_damaged(cache, shelf, digest):
    """It is made again of the same image, if its source still has that, and its name goes on meaning the other."""
    now = cache.get("a").digest
    with closing(cache.open_kept("a", digest=digest)) as image:
        image.disk.path.unlink()
    with pytest.raises(aegis.ImageNotFound, match="is another image by now"):
        boots(cache, digest)
    shelf.images["a"] = (V1,)
    assert boots(cache, digest)
    assert cache.get("a").digest == now


def test_what_cannot_be_read_is_believed_to_need_all(cache, shelf, digest):
    """A later version may have kept something in a way of its own: then nothing is removed."""
    file = cache._keeps.directory / "rel_9.json"
    file.write_text('{"later": 1}')
    (cache._keeps.directory / "x.partial").touch()
    cache.let_go(["rel_1"])
    assert len(list(cache._disks.names())) == 2
    file.unlink()
    cache.let_go([])
    assert len(list(cache._disks.names())) == 1
    assert list(cache._keeps.directory.iterdir()) == []
