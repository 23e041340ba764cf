"""Images in files of ``docker save``: ``docker-archive:FILE``, ``docker-archive:FILE:NAME``."""

from __future__ import annotations

import errno
import io
import os
import posixpath
import stat
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO

import attrs

from aegis_sdk.artifacts import private
from aegis_sdk.errors import ImageFailed, ImageInvalid, ImageNotFound
from aegis_sdk.images import digests
from aegis_sdk.images.base import FoundImage
from aegis_sdk.images.documents import parse_list
from aegis_sdk.images.layers.compression import PIECE, decompressed
from aegis_sdk.images.layers.tar import BOMB_RATIO, BOMB_SIZE, TarLayer
from aegis_sdk.images.layers.tar_headers import BLOCK, EXTENSION_MAX, ZEROS, Block, records, text, whole
from aegis_sdk.images.layers.tar_headers import parse as number
from aegis_sdk.images.local.place import listed, place, reading
from aegis_sdk.images.manifest import CONFIG_LIMIT, LAYERS_MAX, LIMIT, Configuration, configuration, not_found
from aegis_sdk.model import Check

_HEADERS_MAX = 1 << 15
_LINKS_MAX = 8
_CONFIGS_MAX = 16  # of one name: its variants, and more architectures than Docker has official images for
_STRIDE = 64 << 20  # how much is unpacked between two looks at the free space
_RESERVE = 64 << 20  # and how much of that is left to others
_HINT = "free some space, or unpack it yourself, where there is more"

_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")
_FILES = (b"\0", b"0", b"7")
_EXTENSIONS = (b"x", b"X", b"g", b"K", b"L")
_LONG_NAMES = {b"L": b"path", b"K": b"linkpath"}
_RECORDS = frozenset({b"path", b"linkpath", b"size"})


@attrs.frozen
class DockerArchive:
    """The image source of ``docker-archive:``; compressed ones are unpacked in *directory* while they are read."""

    _directory: Path
    name = "docker-archive"
    remembers = False

    def claims(self, reference: str) -> bool:
        return reference.startswith("docker-archive:")

    def canonical(self, reference: str) -> str:
        return str(place(reference, scheme="docker-archive", exists=os.path.isfile))

    def find(self, reference: str, *, architecture: str) -> FoundImage:
        where = place(reference, scheme="docker-archive", exists=os.path.isfile)
        opened = _opener(where.path, self._directory)
        with _held(opened()) as file, reading(where.path):
            try:
                table = _members(file)
            except ImageInvalid as error:
                raise ImageInvalid(f"{where.path} is no docker archive: {error.message}") from error
            archive = _Archive(where.path, file, opened, table)
            return archive.find(where.choice, reference=str(where), architecture=architecture)

    def check(self) -> tuple[Check, ...]:
        return ()


@attrs.frozen
class _File:
    """An open file, read at places: what somebody else has read of it does not matter."""

    handle: int

    @property
    def size(self) -> int:
        return os.fstat(self.handle).st_size

    def at(self, place: int, size: int) -> bytes:
        """*size* bytes from *place* on, fewer only at the end."""
        found = b""
        while len(found) < size and (more := os.pread(self.handle, size - len(found), place + len(found))):
            found += more
        return found


@attrs.frozen(eq=False)
class _Unnamed:
    """A file without a name, closed when no layer needs it any more, which nobody else could tell."""

    _handle: int

    def __attrs_post_init__(self) -> None:
        weakref.finalize(self, os.close, self._handle)

    def open(self) -> int:
        return os.dup(self._handle)


@attrs.frozen
class _Member:
    place: int
    size: int


@attrs.frozen
class _Link:
    target: str


class _Slice(io.RawIOBase):
    """A part of a file as a stream of its own, which closes the file."""

    def __init__(self, handle: int, member: _Member) -> None:
        self._handle = handle
        self._at, self._end = member.place, member.place + member.size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer is 3.12's
        with memoryview(buffer) as view:
            size = os.preadv(self._handle, [view[: self._end - self._at]], self._at)
        self._at += size
        return size

    def close(self) -> None:
        if not self.closed:
            os.close(self._handle)
        super().close()


@attrs.frozen
class _Image:
    """What an archive's manifest.json says of one image."""

    config: str
    names: tuple[str, ...]
    layers: tuple[str, ...]


@attrs.frozen
class _Archive:
    _path: str
    _file: _File
    _opened: Callable[[], int]
    _table: Mapping[str, _Member | _Link]

    def find(self, name: str, *, reference: str, architecture: str) -> FoundImage:
        others = []
        chosen: dict[_Member, _Image] = {}
        for image in self._chosen(name):
            # What has the same config is for the same architecture: only the first can be meant.
            chosen.setdefault(self._member(image.config), image)
        if len(chosen) > _CONFIGS_MAX:
            raise ImageInvalid(f"{self._path}: more than {_CONFIGS_MAX} images in it have one name, or none")
        for image in chosen.values():
            data = self._read(image.config, CONFIG_LIMIT)
            said = configuration(data, f"{self._path}: {image.config[:200]!r}")
            if said.platform.is_for(architecture):
                return FoundImage(
                    reference=reference,
                    digest=digests.of(data),
                    architecture=architecture,
                    config=said.config,
                    created=said.created,
                    layers=self._layers(image, said),
                )
            others.append(said.platform)
        raise not_found(reference, others, architecture=architecture)

    def _chosen(self, name: str) -> list[_Image]:
        images = list(self._images())
        chosen = [image for image in images if _full(name) in map(_full, image.names)] if name else images
        if chosen and (name or len({image.config for image in images}) == 1):
            return chosen
        what = f"is no image called {name!r}" if name else f"are {len(images)} images to choose from"
        seen = listed(each for image in images for each in image.names) or "none"
        raise ImageNotFound(
            f"there {what} in {self._path} (names: {seen})",
            hint=f"name one: docker-archive:{self._path}:NAME" if images else "",
        )

    def _images(self) -> Iterator[_Image]:
        if "manifest.json" not in self._table:
            raise ImageInvalid(
                f"{self._path} is no docker archive: there is no manifest.json in it",
                hint="it is an OCI layout: unpack it, and use oci:DIR" if "oci-layout" in self._table else "",
            )
        for entry in parse_list(self._read("manifest.json", LIMIT), f"{self._path}: 'manifest.json'"):
            yield _Image(entry.text("Config"), entry.texts("RepoTags"), entry.texts("Layers"))

    def _layers(self, image: _Image, said: Configuration) -> tuple[TarLayer, ...]:
        if len(image.layers) != len(said.diff_ids) or len(image.layers) > LAYERS_MAX:
            raise ImageInvalid(
                f"{self._path}: an image in it has {len(image.layers)} layers, its config {len(said.diff_ids)}, "
                f"and at most {LAYERS_MAX} may be"
            )
        members = [self._member(name) for name in image.layers]
        return tuple(
            TarLayer(digest=diff_id, size=member.size, open=partial(_stream, self._opened, member))
            for member, diff_id in zip(members, said.diff_ids, strict=True)
        )

    def _read(self, name: str, at_most: int) -> bytes:
        member = self._member(name)
        if member.size > at_most:
            raise ImageInvalid(f"{self._path}: {name[:200]!r} is larger than {at_most >> 20} MiB")
        return self._file.at(member.place, member.size)

    def _member(self, name: str) -> _Member:
        # Docker before 1.10 wrote a layer that it had written before as a link to it.
        path = posixpath.normpath(name)
        for _ in range(_LINKS_MAX):
            match self._table.get(path):
                case _Link(target):
                    path = target
                case _Member() as member:
                    return member
                case None:
                    break
        raise ImageInvalid(f"{self._path}: {name[:200]!r} is not in it")


def _full(name: str) -> str:
    """*name* as everybody means it: ``app`` is ``app:latest``, and so is ``docker.io/library/app``."""
    for prefix in ("docker.io/", "library/"):
        name = name.removeprefix(prefix)
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _stream(opened: Callable[[], int], member: _Member) -> BinaryIO:
    return io.BufferedReader(_Slice(opened(), member))


@contextmanager
def _held(handle: int) -> Iterator[_File]:
    try:
        yield _File(handle)
    finally:
        os.close(handle)


def _open(path: str) -> int:
    try:
        # Not to be waited for, should it be a fifo.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageNotFound(f"there is no file {path}") from error
    except OSError as error:
        raise ImageFailed(f"{path} cannot be read: {error.strerror}") from error
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise ImageInvalid(f"{path} is no regular file")


def _opener(path: str, directory: Path) -> Callable[[], int]:
    """What gives a descriptor of the archive at *path*, unpacked in *directory* if need be."""
    with _held(_open(path)) as file, reading(path):
        if file.at(0, 8).startswith(_COMPRESSED):
            return _unpacked(file, directory, path).open
    return partial(_open, path)


def _unpacked(packed: _File, directory: Path, path: str) -> _Unnamed:
    import tempfile

    size = packed.size
    try:
        private(directory)
        with (
            _Slice(os.dup(packed.handle), _Member(0, size)) as stream,
            tempfile.TemporaryFile(dir=directory) as out,
        ):
            for piece in decompressed(lambda size: stream.read(size) or b""):
                out.write(piece)
                _require_room(out, compressed=size)
            out.flush()
            return _Unnamed(os.dup(out.fileno()))
    except ImageInvalid as error:
        raise ImageInvalid(f"{path}: {error.message}") from error
    except OSError as error:
        raise ImageFailed(f"{path} cannot be unpacked in {directory}: {error.strerror}", hint=_HINT) from error


def _require_room(out: IO[bytes], *, compressed: int) -> None:
    size = out.tell()
    if size > max(BOMB_SIZE, BOMB_RATIO * compressed):
        raise ImageInvalid(
            f"it is a decompression bomb: over {BOMB_SIZE >> 20} MiB, and over {BOMB_RATIO} times its size"
        )
    if size % _STRIDE < PIECE:
        about = os.fstatvfs(out.fileno())
        if about.f_bavail * about.f_frsize < _RESERVE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _members(file: _File) -> dict[str, _Member | _Link]:
    """Where each member is, the last one of a name; only headers are read."""
    table: dict[str, _Member | _Link] = {}
    said: dict[bytes, bytes] = {}
    at, headers = 0, 0
    while (raw := file.at(at, BLOCK)) and raw != ZEROS:
        block = Block.parse(raw.ljust(BLOCK, b"\0"))
        at, headers = at + BLOCK, headers + 1
        if headers > _HEADERS_MAX:
            raise ImageInvalid(f"it has more than {_HEADERS_MAX} headers")
        if block.type in _EXTENSIONS:
            said |= _said(block, file, at)
            size = block.size
        else:
            size = _enter(table, block, said, at, end=file.size)
            said = {}
        at += size + -size % BLOCK
    return table


def _said(block: Block, file: _File, at: int) -> dict[bytes, bytes]:
    if block.size > EXTENSION_MAX:
        raise ImageInvalid(f"a header in it takes more than {EXTENSION_MAX >> 20} MiB")
    if block.type == b"g":  # what it says of all members is nothing that matters here
        return {}
    data = file.at(at, block.size)
    if block.type in _LONG_NAMES:
        return {_LONG_NAMES[block.type]: text(data)}
    return {key: value for key, value in records(data) if key in _RECORDS}


def _enter(table: dict[str, _Member | _Link], block: Block, said: Mapping[bytes, bytes], at: int, *, end: int) -> int:
    """How many bytes the member has, which now is in *table*, if it is one of those that matter."""
    name = posixpath.normpath(os.fsdecode(said.get(b"path", block.name)))
    link = os.fsdecode(said.get(b"linkpath", block.link))
    if block.type == b"1":
        table[name] = _Link(posixpath.normpath(link))
    elif block.type == b"2":
        table[name] = _Link(posixpath.normpath(posixpath.join(posixpath.dirname(name), link)))
    elif block.type in _FILES:
        size = whole(number(said[b"size"], "size"), "size") if said.get(b"size") else block.size
        if at + size > end:
            raise ImageInvalid("it ends in the middle of a member")
        table[name] = _Member(at, size)
        return size
    return 0
