"""The cache of images: what is kept, what is shared, and what is noticed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import attrs
import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.images.cache import ImageCache
from aegis_sdk.images.sources import Sources
from tests.conftest import ROOT
from tests.sdk.cache.shelf import Sheet, discard, disk_of, files_in, pulled


def test_a_source_that_remembers_is_asked_once(cache, shelf):
    """What a name stood for is good until the user wants to know anew."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    first, again = pulled(cache, "a"), pulled(cache, "a")
    assert again == attrs.evolve(first, used=again.used)
    assert shelf.asked == ["a"]
    pulled(cache, "a", "always")
    assert shelf.asked == ["a", "a"]


def test_never_is_never(cache, shelf):
    """What is not here is not fetched when it is not to be; what is here is used."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    with pytest.raises(aegis.ImageNotFound, match="shelf/a is not in the cache"):
        pulled(cache, "a", "never")
    pulled(cache, "a")
    assert pulled(cache, "a", "never").reference == "shelf/a"


def test_a_record_survives_as_it_is(cache, shelf, tmp_path):
    """Another process reads of an image what was known of it, its configuration included."""
    shelf.images["a"] = (Sheet(text=b"1"), Sheet(text=b"2"))
    info = pulled(cache, "a")
    other = ImageCache(tmp_path / "images", Sources(Config(home=tmp_path), lambda: (shelf,)), architecture="amd64")
    assert other.get("a") == info
    assert (info.config.env, info.config.entrypoint, info.config.cwd) == ({"A": "1"}, ("/bin/x",), "/w")


def test_the_same_layers_are_one_disk(cache, shelf):
    """Names of the same layers share one disk, which lives as long as one of them."""
    sheet = Sheet(text=b"1")
    shelf.images |= {"a": (sheet,), "b": (sheet,)}
    assert disk_of(cache, "a") == disk_of(cache, "b")
    assert sheet.read == [b"1"]
    discard(cache, "a")
    assert disk_of(cache, "b").exists()
    discard(cache, "b")
    assert files_in(cache) == set()


@pytest.mark.parametrize("damage", ["change", "truncate", "remove", "forget"])
def test_a_damaged_disk_is_made_again(cache, shelf, damage):
    """A disk that is not as it was made is noticed at the next use, and made again of the very same image."""
    sheet = Sheet(text=b"1")
    shelf.images["a"] = (sheet,)
    path = disk_of(cache, "a")
    before = path.read_bytes()
    shelf.images["a@"] = shelf.images["a"]
    path.chmod(0o644)
    if damage == "change":
        path.write_bytes(before[:-1] + b"x")
    elif damage == "truncate":
        os.truncate(path, 100)
    elif damage == "remove":
        path.unlink()
    else:
        path.with_name("about.json").write_text("nonsense")
    assert disk_of(cache, "a").read_bytes() == before
    assert shelf.asked[-1].startswith("shelf/a@sha256:")


def test_damage_that_hides_is_found_by_a_pull(cache, shelf):
    """Bytes that changed with the file's time put back are found when the image is pulled again."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    path = disk_of(cache, "a")
    before, about = path.read_bytes(), path.stat()
    path.chmod(0o644)
    path.write_bytes(before[:-1] + b"x")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    pulled(cache, "a", "always")
    assert disk_of(cache, "a").read_bytes() == before


def test_a_copied_home_needs_no_pull(cache, shelf):
    """A disk whose times are new but whose bytes are right is used as it is."""
    sheet = Sheet(text=b"1")
    shelf.images["a"] = (sheet,)
    os.utime(disk_of(cache, "a"))
    disk_of(cache, "a")
    assert sheet.read == [b"1"]


def test_many_at_once_make_one(cache, shelf, tmp_path):
    """Many threads that want the same image at once get the same disk."""
    sheet = Sheet(text=b"1")
    shelf.images["a"] = (sheet,)
    failures: list[BaseException] = []

    def pull() -> None:
        try:
            pulled(cache, "a")
        except BaseException as error:  # noqa: BLE001  # to be told below
            failures.append(error)

    threads = [threading.Thread(target=pull) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(list(cache._disks.names())) == 1


def _load(cache: ImageCache, source: Path, name: str, *, replace: bool = False) -> bytes:
    imported = cache.import_image(f"dir:{source}", name=name, replace=replace, report=lambda _: None)
    with closing(imported) as image:
        return image.disk.path.read_bytes()


def test_importing_keeps_an_image_under_a_name(cache, shelf, tmp_path):
    """An imported image is found by its name; a name in use is taken over only on demand, a pinned one never."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir(mode=0o700)
    first = _load(cache, tmp_path / "one", "mine")
    assert disk_of(cache, "mine").read_bytes() == first
    assert not shelf.asked
    with pytest.raises(aegis.InvalidValue, match="there is an image shelf/mine already"):
        _load(cache, tmp_path / "two", "mine")
    assert _load(cache, tmp_path / "two", "mine", replace=True) != first
    for name in (f"mine@sha256:{'0' * 64}", "base", "dir:/tmp"):
        with pytest.raises(aegis.InvalidValue, match="no name to keep an image under"):
            _load(cache, tmp_path / "one", name)
    with pytest.raises(aegis.InvalidValue, match="shelf/a is no image of this machine"):
        cache.import_image("shelf/a", name="other", replace=False, report=lambda _: None)


def test_a_damaged_import_never_becomes_another_image(cache, tmp_path):
    """When the disk of an imported image is damaged and its source has changed or gone, that is said."""
    source = tmp_path / "tree"
    source.mkdir()
    _load(cache, source, "mine")
    path = disk_of(cache, "mine")
    path.unlink()
    (source / "more").touch()
    with pytest.raises(aegis.ImageNotFound, match=r"shelf/mine is damaged, and dir:.* is another image by now"):
        disk_of(cache, "mine")
    (source / "more").unlink()
    source.rmdir()
    with pytest.raises(aegis.ImageNotFound, match=r"shelf/mine is damaged, and dir:.* is gone"):
        disk_of(cache, "mine")


def test_an_image_is_what_it_was(cache, shelf):
    """Who has an image in hand boots and removes just that one, whatever its name means by then."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    old = pulled(cache, "a").digest
    with closing(cache.open_kept("a", digest=old)) as image:
        assert image.record.digest == old
    shelf.images["a"] = (Sheet(text=b"2"),)
    pulled(cache, "a", "always")
    for use in (cache.open_kept, cache.remove):
        with pytest.raises(aegis.ImageNotFound, match="shelf/a is another image by now"):
            use("a", digest=old)
    assert cache.get("a").digest != old


def test_layers_that_are_only_named_give_no_disk(cache, shelf):
    """An image that names another's layers and does not have them gets an error, not the other's disk."""

    @attrs.frozen(kw_only=True)
    class Pretender(Sheet):
        def entries(self):
            raise aegis.ImageInvalid("the layer's content is not what its digest names")

    shelf.images |= {"mine": (Sheet(text=b"1"), Sheet(text=b"2")), "theirs": (Pretender(text=b"1"), Sheet(text=b"2"))}
    pulled(cache, "mine")
    shelf.salt = b"theirs"
    with pytest.raises(aegis.ImageInvalid, match="not what its digest names"):
        pulled(cache, "theirs")
    assert [info.reference for info in cache.all()] == ["shelf/mine"]


def test_an_unknown_image_is_said_to_be_unknown(cache, shelf):
    """Asking for, or removing, what is not in the cache names it."""
    with pytest.raises(aegis.ImageNotFound, match="shelf/a is not in the cache"):
        cache.get("a")
    with pytest.raises(aegis.ImageNotFound, match="shelf/a is not in the cache"):
        cache.remove("a", digest="")


def test_a_home_that_cannot_be_written_to(tmp_path):
    """What is wrong with the place is said, with what to do."""
    script = f"import aegis_sdk; aegis_sdk.Image.pull('dir:{tmp_path}')"
    environ = {**os.environ, "AEGIS_HOME": "/proc/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, env=environ, cwd=ROOT, capture_output=True, text=True
    )
    assert "images cannot be kept in /proc/nowhere" in done.stderr
    assert "set AEGIS_HOME" in done.stderr
