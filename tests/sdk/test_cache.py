"""The cache of images: what is kept, what is shared, what is noticed, and what is given back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
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
        digest = digests.of("".join(layer.digest for layer in layers).encode())
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


def _open(cache: ImageCache, name: str, pull: str = "missing") -> OpenImage:
    return cache.open(name, pull=pull, report=lambda _: None)


def _pull(cache: ImageCache, name: str, pull: str = "missing") -> aegis.ImageInfo:
    with _open(cache, name, pull) as image:
        return cache.info(image.record)


def _disk(cache: ImageCache, name: str) -> Path:
    with _open(cache, name) as image:
        return image.disk.path


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
    cache.remove("a")
    assert _disk(cache, "b").exists()
    cache.remove("b")
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
            cache.remove("a")
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
    """Of many threads that want the same image at once, one makes its disk."""
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
    assert (failures, sheet.read) == ([], [b"1"])


def test_removing_and_pulling_at_once(cache, shelf):
    """While one keeps removing an image, another can keep booting from it."""
    shelf.images["a"] = (Sheet(text=b"1"),)
    over = threading.Event()

    def remove() -> None:
        while not over.is_set():
            with suppress(aegis.ImageInUse, aegis.ImageNotFound):
                cache.remove("a")

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(100):
            with _open(cache, "a") as image:
                assert image.disk.path.stat().st_nlink == 1
    finally:
        over.set()
        thread.join()


def test_importing_keeps_an_image_under_a_name(cache, shelf):
    """An imported image is found by its name; a name in use is taken over only on demand, a pinned one never."""
    shelf.images |= {"a": (Sheet(text=b"1"),), "b": (Sheet(text=b"2"),)}

    def load(source: str, name: str, *, replace: bool = False) -> str:
        with cache.import_image(source, name=name, replace=replace, report=lambda _: None) as image:
            return str(image.record.disk)

    first = load("a", "mine")
    assert _disk(cache, "mine").parent.name == first
    assert shelf.asked == ["a"]
    with pytest.raises(aegis.InvalidValue, match="there is an image shelf/mine already"):
        load("b", "mine")
    assert load("b", "mine", replace=True) != first
    with pytest.raises(aegis.InvalidValue, match="no name to keep an image under"):
        load("a", f"mine@sha256:{'0' * 64}")


def test_an_unknown_image_is_said_to_be_unknown(cache, shelf):
    """Asking for, or removing, what is not in the cache names it."""
    for verb in (cache.get, cache.remove):
        with pytest.raises(aegis.ImageNotFound, match="shelf/a is not in the cache"):
            verb("a")


def test_a_home_that_cannot_be_written_to(tmp_path):
    """What is wrong with the place is said, with what to do."""
    script = f"import aegis_sdk; aegis_sdk.Image.pull('dir:{tmp_path}')"
    environ = {**os.environ, "AEGIS_HOME": "/proc/nowhere"}
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, env=environ, cwd=ROOT, capture_output=True, text=True
    )
    assert "could not be made in /proc/nowhere" in done.stderr
    assert "set AEGIS_HOME" in done.stderr
