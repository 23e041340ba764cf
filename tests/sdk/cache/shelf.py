"""A source whose images are a file or two, and what users do with a cache of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs

import aegis_sdk as aegis
from aegis_sdk.images import digests
from aegis_sdk.images.base import Entry, FoundImage, Kind, Layer
from aegis_sdk.images.cache import ImageCache, OpenImage


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


def opened(cache: ImageCache, name: str, pull: str = "missing") -> closing[OpenImage]:
    return closing(cache.open(name, pull=pull, report=lambda _: None))


def pulled(cache: ImageCache, name: str, pull: str = "missing") -> aegis.ImageInfo:
    with opened(cache, name, pull) as image:
        return cache.info(image.record)


def disk_of(cache: ImageCache, name: str) -> Path:
    with opened(cache, name) as image:
        return image.disk.path


def discard(cache: ImageCache, name: str) -> None:
    cache.remove(name, digest=cache.get(name).digest)


def files_in(cache: ImageCache) -> set[str]:
    root = cache._disks.directory.parent
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
