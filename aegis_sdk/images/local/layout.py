"""Images in OCI layouts (image-layout.md): ``oci:DIR``, ``oci:DIR:TAG``, ``oci:DIR@sha256:...``."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import BinaryIO

import attrs

from aegis_sdk.errors import ImageFailed, ImageInvalid, ImageNotFound
from aegis_sdk.images import digests
from aegis_sdk.images.base import FoundImage
from aegis_sdk.images.documents import Document, parse
from aegis_sdk.images.layers.tar import TarLayer
from aegis_sdk.images.local.place import Place, listed, open_below, opened, place, reading
from aegis_sdk.images.manifest import LIMIT, Content, Descriptor, Found, choose, describe, find
from aegis_sdk.model import Check

_TAG = "org.opencontainers.image.ref.name"
_PINNED = re.compile(r"(?P<path>.+)@(?P<digest>sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})", re.ASCII | re.DOTALL)
_PIECE = 1 << 20
_MARKER_LIMIT = 4096


@attrs.frozen
class OciLayout:
    """The image source of ``oci:``."""

    name = "oci"
    remembers = False

    def claims(self, reference: str) -> bool:
        return reference.startswith("oci:")

    def canonical(self, reference: str) -> str:
        where, digest = _place(reference)
        return f"{where}@{digest}" if digest else str(where)

    def find(self, reference: str, *, architecture: str) -> FoundImage:
        where, digest = _place(reference)
        name = self.canonical(reference)
        return _Layout(where.path).find(where.choice, digest, name=name, architecture=architecture)

    def check(self) -> tuple[Check, ...]:
        return ()


def _place(reference: str) -> tuple[Place, str]:
    pinned = _PINNED.fullmatch(reference)
    if pinned and not Path(reference.removeprefix("oci:")).is_dir():
        return place(pinned["path"], scheme="oci", exists=os.path.isdir), pinned["digest"]
    return place(reference, scheme="oci", exists=os.path.isdir), ""


@attrs.frozen
class _Layout:
    """A directory that others may have filled: no link in it is followed, and nothing but regular files is opened."""

    _path: str

    def find(self, tag: str, digest: str, *, name: str, architecture: str) -> FoundImage:
        found = self._chosen(tag, digest, name=name, architecture=architecture)
        layers = zip(found.manifest.layers, found.diff_ids, strict=True)
        return FoundImage(
            reference=name,
            digest=found.digest,
            architecture=found.architecture,
            config=found.config,
            created=found.created,
            layers=tuple(self._layer(layer, diff_id) for layer, diff_id in layers),
            pinned=f"oci:{self._path}@{found.digest}",
        )

    def _chosen(self, tag: str, digest: str, *, name: str, architecture: str) -> Found:
        self._require_version()
        if not digest:
            return choose(name, self._entries(tag), self._get, architecture=architecture)
        if not self._holds(*_parts(digest)):
            raise ImageNotFound(f"there is no {digest} in {self._path}")
        data = digests.check(self._read(*_parts(digest), at_most=LIMIT), digest, f"the manifest of {name}")
        return attrs.evolve(find(name, Content(data), self._get, architecture=architecture), digest=digest)

    def _require_version(self) -> None:
        if not self._holds("oci-layout"):
            raise ImageNotFound(f"there is no OCI layout at {self._path}")
        data = self._read("oci-layout", at_most=_MARKER_LIMIT)
        version = parse(data, f"{self._path}/oci-layout").text("imageLayoutVersion")
        if not version.startswith("1."):
            raise ImageInvalid(f"the OCI layout at {self._path} is of version {version[:200]!r}, not 1")

    def _entries(self, tag: str) -> tuple[Document, ...]:
        index = parse(self._read("index.json", at_most=LIMIT), f"{self._path}/index.json")
        tagged: dict[str, list[Document]] = {}
        for entry in index.documents("manifests"):
            tagged.setdefault(describe(entry).annotations.get(_TAG, ""), []).append(entry)
        if not tag and len(tagged) == 1:
            return tuple(*tagged.values())
        if tag and tag in tagged:
            return tuple(tagged[tag])
        seen = listed(filter(None, tagged)) or "none"
        what = f"is no image with the tag {tag!r}" if tag else f"are {len(tagged)} images to choose from"
        raise ImageNotFound(
            f"there {what} in {self._path} (tags: {seen})", hint=f"name one: oci:{self._path}:TAG" if tagged else ""
        )

    def _layer(self, layer: Descriptor, diff_id: str) -> TarLayer:
        return TarLayer(
            digest=diff_id,
            size=layer.size,
            open=partial(self._open, *_parts(layer.digest)),
            fetch=partial(self._verify, layer),
        )

    def _verify(self, layer: Descriptor, report: Callable[[int], None]) -> None:
        hashed, done = digests.hasher(layer.digest), 0
        with self._open(*_parts(layer.digest)) as file, reading(self._path):
            while done <= layer.size and (piece := file.read(_PIECE)):
                hashed.update(piece)
                done += len(piece)
                report(done)
        if done != layer.size or hashed.hexdigest() != layer.digest.partition(":")[2]:
            raise ImageInvalid(
                f"{self._path}: the blob {layer.digest} is not what its digest and size ({layer.size}) say"
            )

    def _holds(self, *parts: str) -> bool:
        return os.path.lexists(Path(self._path, *parts))

    def _get(self, descriptor: Descriptor) -> bytes:
        return self._read(*_parts(descriptor.digest), at_most=descriptor.size)

    def _read(self, *parts: str, at_most: int) -> bytes:
        with self._open(*parts) as file, reading(self._path):
            data = file.read(at_most + 1)
        if len(data) > at_most:
            raise ImageInvalid(f"{self._path}: {'/'.join(parts)} is larger than {at_most} bytes")
        return data

    def _open(self, *parts: str) -> BinaryIO:
        what = f"{self._path}: {'/'.join(parts)}"
        try:
            with opened(self._path) as root:
                handle = open_below(root, parts)
        except PermissionError as error:
            raise ImageFailed(f"{what} cannot be read: {error.strerror}", hint="make it readable for you") from error
        except OSError as error:
            raise ImageInvalid(f"{what} cannot be read: {error.strerror}") from error
        with ExitStack() as undo:
            undo.callback(os.close, handle)
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ImageInvalid(f"{what} is no regular file")
            undo.pop_all()
        return os.fdopen(handle, "rb")


def _parts(digest: str) -> tuple[str, str, str]:
    algorithm, _, value = digests.valid(digest).partition(":")
    return "blobs", algorithm, value
