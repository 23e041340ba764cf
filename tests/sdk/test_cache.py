"""The cache of images: what is kept, what is shared, what is noticed, and what is given back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import attrs
import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.images import digests
from aegis_sdk.images.base import Entry, FoundImage, Kind, Layer
from aegis_sdk.images.cache import ImageCache, OpenImage
from aegis_sdk.images.sources import Sources
from tests.conftest import ROOT


@attrs.frozen(kw_only=True)
class Sheet:
    """A layer of one file, which counts how often it was read."""

    text: bytes
    read: list[bytes] = attrs.field(factory=list)
    size: int = 1

    @property
    def digest(self) -> str:
        return digests.of(self.text)

    def fetch(self, report):
        report(self.size)

    def entries(self) -> Iterator[Entry]:
        self.read.append(self.text)
        yield Entry(path=b"file", kind=Kind.FILE, content=(self.text,), size=len(self.text))


@attrs.define
class Shelf:
    """A source that is asked once: names and the layers that they stand for now."""

    images: dict[str, tuple[Layer, ...]] = attrs.field(factory=dict)
    asked: list[str] = attrs.field(factory=list)
    salt: bytes = b""
    name: str = "shelf"
    remembers: bool = True

    def claims(self, reference: str) -> bool:  # noqa: ARG002  # there is no other
        return True

    def canonical(self, reference: str) -> str:
        return f"shelf/{reference.removeprefix('shelf/')}"

    def find(self, reference: str, *, architecture: str) -> FoundImage:
        self.asked.append(reference)
        name = self.canonical(reference).removeprefix("shelf/").partition("@")[0]
        if name not in self.images:
            raise aegis.ImageNotFound(f"{name} is not on the shelf")
        layers = self.images[name]
        digest = digests.of(self.salt + "".join(layer.digest for layer in layers).encode())
        return FoundImage(
            reference=f"shelf/{name}",
            digest=digest,
            architecture=architecture,
            config=aegis.ImageConfig(env={"A": "1"}, entrypoint=("/bin/x",), cwd="/w"),
            layers=layers,
            pinned=f"shelf/{name}@{digest}",
        )

    def check(self) -> tuple[aegis.Check, ...]:
        return ()


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def cache(tmp_path, shelf) -> ImageCache:
    return ImageCache(tmp_path / "images", Sources(Config(home=tmp_path), lambda: (shelf,)), architecture="amd64")


def _open(cache: ImageCache, name: str, pull: str = "missing") -> closing[OpenImage]:
    return closing(cache.open(name, pull=pull, report=lambda _: None))


def _pull(cache: ImageCache, name: str, pull: str = "missing") -> aegis.ImageInfo:
    with _open(cache, name, pull) as image:
        return cache.info(image.record)


def _disk(cache: ImageCache, name: str) -> Path:
    with _open(cache, name) as image:
        return image.disk.path


def _remove(cache: ImageCache, name: str) -> None:
    cache.remove(name, digest=cache.get(name).digest)


def _files(cache: ImageCache) -> set[str]:
    root = cache._disks.directory.parent
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_source_that_remembers_is_asked_once(cache, shelf):
    """What a name stood for is good until the user wants to know anew."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    first, again = _pull(cache, "a"), _pull(cache, "a")
    assert again == attrs.evolve(first, used=again.used)
    assert shelf.asked == ["a"]
    _pull(cache, "a", "always")
    assert shelf.asked == ["a", "a"]


def test_never_is_never(cache, shelf):
    """What is not here is not fetched when it is not to be; what is here is used."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    with pytest.raises(aegis.ImageNotFound, match="shelf/a is not in the cache"):
        _pull(cache, "a", "never")
    _pull(cache, "a")
    assert _pull(cache, "a", "never").reference == "shelf/a"


def test_a_record_survives_as_it_is(cache, shelf, tmp_path):
    """Another process reads of an image what was known of it, its configuration included."""
    shelf.images["a"] = (Sheet(text=b"1"), Sheet(text=b"2"))
    info = _pull(cache, "a")
    other = ImageCache(tmp_path / "images", Sources(Config(home=tmp_path), lambda: (shelf,)), architecture="amd64")
    assert other.get("a") == info
    assert (info.config.env, info.config.entrypoint, info.config.cwd) == ({"A": "1"}, ("/bin/x",), "/w")


def test_the_same_layers_are_one_disk(cache, shelf):
    """Names of the same layers share one disk, which lives as long as one of them."""
    sheet = Sheet(text=b"1")
    shelf.images |= {"a": (sheet,), "b": (sheet,)}
    assert _disk(cache, "a") == _disk(cache, "b")
    assert sheet.read == [b"1"]
    _remove(cache, "a")
    assert _disk(cache, "b").exists()
    _remove(cache, "b")
    assert _files(cache) == set()


@pytest.mark.parametrize("damage", ["change", "truncate", "remove", "forget"])
def test_a_damaged_disk_is_made_again(cache, shelf, damage):
    """A disk that is not as it was made is noticed at the next use, and made again of the very same image."""
    sheet = Sheet(text=b"1")
    shelf.images["a"] = (sheet,)
    path = _disk(cache, "a")
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
    assert _disk(cache, "a").read_bytes() == before
    assert shelf.asked[-1].startswith("shelf/a@sha256:")


def test_damage_that_hides_is_found_by_a_pull(cache, shelf):
    """Bytes that changed with the file's time put back are found when the image is pulled again."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    path = _disk(cache, "a")
    before, about = path.read_bytes(), path.stat()
    path.chmod(0o644)
    path.write_bytes(before[:-1] + b"x")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    _pull(cache, "a", "always")
    assert _disk(cache, "a").read_bytes() == before


def test_a_copied_home_needs_no_pull(cache, shelf):
    """A disk whose times are new but whose bytes are right is used as it is."""
    sheet = Sheet(text=b"1")
    shelf.images["a"] = (sheet,)
    os.utime(_disk(cache, "a"))
    _disk(cache, "a")
    assert sheet.read == [b"1"]


def test_an_image_in_use_stays(cache, shelf):
    """What a sandbox boots from is neither removed nor pruned; afterwards it is."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    with _open(cache, "a") as image:
        with pytest.raises(aegis.ImageInUse, match="shelf/a"):
            _remove(cache, "a")
        assert cache.prune(older_than=None, unused=True).images == ()
        assert image.disk.path.exists()
    assert cache.prune(older_than=None, unused=True).images == ("shelf/a",)
    assert _files(cache) == set()


def test_what_a_tag_no_longer_means_is_collected(cache, shelf):
    """When a name comes to stand for another image, nothing of the former one stays, unless it is in use."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    with _open(cache, "a") as image:
        shelf.images["a"] = (Sheet(text=b"2"),)
        _pull(cache, "a", "always")
        assert image.disk.path.exists()
    assert len(list(cache._disks.names())) == 2
    assert cache.prune(older_than=None, unused=False).bytes > 0
    assert len(list(cache._disks.names())) == 1
    shelf.images["a"] = (Sheet(text=b"3"),)
    _pull(cache, "a", "always")
    assert len(list(cache._disks.names())) == 1


def test_pruning_by_age(cache, shelf):
    """What was used lately stays, what was not is removed."""
    shelf.images |= {"old": (Sheet(text=b"1"),), "new": (Sheet(text=b"2"),)}
    _pull(cache, "old")
    _pull(cache, "new")
    long_ago = time.time() - 1000
    os.utime(cache._references._path("shelf/old"), (long_ago, long_ago))
    assert cache.prune(older_than=500, unused=False).images == ("shelf/old",)
    assert [info.reference for info in cache.all()] == ["shelf/new"]


def test_what_killed_processes_left_is_swept(cache, shelf):
    """Half-made things of processes that were killed do not hinder, and a pruning takes them away."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    _pull(cache, "a")
    whole = _files(cache)
    root = cache._disks.directory.parent
    (root / "references" / "tmpx.partial").write_text("{")
    (root / "references" / "0.json").write_text("[]")
    (root / "disks" / ("f" * 64)).mkdir()
    (root / "disks" / ("f" * 64) / ".partial").write_bytes(bytes(9))
    assert _pull(cache, "a").reference == "shelf/a"
    cache.prune(older_than=None, unused=False)
    assert _files(cache) == whole


def test_a_failed_making_leaves_nothing(cache, shelf):
    """An image whose layers turn out to be wrong leaves no disk and no name, and the next try is free of it."""

    class Broken(Sheet):
        def entries(self):
            yield from super().entries()
            raise aegis.ImageInvalid("the layer is torn")

    shelf.images["a"] = (Broken(text=b"1"),)
    with pytest.raises(aegis.ImageInvalid, match="the layer is torn"):
        _pull(cache, "a")
    assert _files(cache) == set()
    shelf.images["a"] = (Sheet(text=b"1"),)
    assert _pull(cache, "a").disk_bytes > 0


def test_many_at_once_make_one(cache, shelf, tmp_path):
    """Many threads that want the same image at once get the same disk."""
    sheet = Sheet(text=b"1")
    shelf.images["a"] = (sheet,)
    failures: list[BaseException] = []

    def pull() -> None:
        try:
            _pull(cache, "a")
        except BaseException as error:  # noqa: BLE001  # to be told below
            failures.append(error)

    threads = [threading.Thread(target=pull) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(list(cache._disks.names())) == 1


def test_removing_and_pulling_at_once(cache, shelf):
    """While one keeps removing an image, another can keep booting from it."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    over = threading.Event()

    def remove() -> None:
        while not over.is_set():
            with suppress(aegis.ImageInUse, aegis.ImageNotFound):
                _remove(cache, "a")

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(100):
            with _open(cache, "a") as image:
                assert image.disk.path.stat().st_nlink == 1
    finally:
        over.set()
        thread.join()


def _load(cache: ImageCache, source: Path, name: str, *, replace: bool = False) -> bytes:
    imported = cache.import_image(f"dir:{source}", name=name, replace=replace, report=lambda _: None)
    with closing(imported) as image:
        return image.disk.path.read_bytes()


def test_importing_keeps_an_image_under_a_name(cache, shelf, tmp_path):
    """An imported image is found by its name; a name in use is taken over only on demand, a pinned one never."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir(mode=0o700)
    first = _load(cache, tmp_path / "one", "mine")
    assert _disk(cache, "mine").read_bytes() == first
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
    path = _disk(cache, "mine")
    path.unlink()
    (source / "more").touch()
    with pytest.raises(aegis.ImageNotFound, match=r"shelf/mine is damaged, and dir:.* is another image by now"):
        _disk(cache, "mine")
    (source / "more").unlink()
    source.rmdir()
    with pytest.raises(aegis.ImageNotFound, match=r"shelf/mine is damaged, and dir:.* is gone"):
        _disk(cache, "mine")


def test_an_image_is_what_it_was(cache, shelf):
    """Who has an image in hand boots and removes just that one, whatever its name means by then."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    old = _pull(cache, "a").digest
    with closing(cache.open_kept("a", digest=old)) as image:
        assert image.record.digest == old
    shelf.images["a"] = (Sheet(text=b"2"),)
    _pull(cache, "a", "always")
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
    _pull(cache, "mine")
    shelf.salt = b"theirs"
    with pytest.raises(aegis.ImageInvalid, match="not what its digest names"):
        _pull(cache, "theirs")
    assert [info.reference for info in cache.all()] == ["shelf/mine"]


def test_what_is_unknown_is_not_collected(cache, shelf):
    """While a record is of a later version, nothing that it may need is removed; its own file stays, too."""
    shelf.images |= {"a": (Sheet(text=b"1"),), "b": (Sheet(text=b"2"),)}
    _pull(cache, "a")
    disk = _disk(cache, "b")
    record = cache._references._path("shelf/b")
    record.write_text(record.read_text().replace('"version": 1', '"version": 99'))
    _remove(cache, "a")
    cache.prune(older_than=None, unused=True)
    assert disk.exists()
    assert record.exists()


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
