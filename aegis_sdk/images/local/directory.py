"""Directories as images: ``dir:PATH`` is the tree below PATH as it is now."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs

from aegis_sdk.errors import ImageFailed, ImageNotFound
from aegis_sdk.images.base import Entry, FoundImage, Kind
from aegis_sdk.images.local.place import open_below, opened, place
from aegis_sdk.images.tree import Metadata
from aegis_sdk.model import Check, ImageConfig, printable

T = TypeVar("T")

_PIECE = 1 << 20
_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}
_DEVICES = (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)
_REMOVAL = b".wh."
_NO_XATTRS = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENODATA)
_VANISHED = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)


@attrs.frozen
class HostDirectory:
    """The image source of ``dir:``."""

    name = "dir"
    remembers = False

    def claims(self, reference: str) -> bool:
        return reference.startswith("dir:")

    def canonical(self, reference: str) -> str:
        return str(place(reference, scheme="dir", exists=lambda _: True))

    def find(self, reference: str, *, architecture: str) -> FoundImage:
        path = place(reference, scheme="dir", exists=lambda _: True).path
        if not Path(path).is_dir():
            raise ImageNotFound(f"there is no directory {path}")
        layer = DirectoryLayer.of(path)
        return FoundImage(
            reference=self.canonical(reference),
            digest=layer.digest,
            architecture=architecture,
            config=ImageConfig(),
            layers=(layer,),
        )

    def check(self) -> tuple[Check, ...]:
        return ()


@attrs.frozen(kw_only=True)
class DirectoryLayer:
    """The tree below *path*; *digest* is of all that the system says of it without reading a file."""

    path: str
    digest: str
    size: int

    @classmethod
    def of(cls, path: str) -> DirectoryLayer:
        """The layer of the tree as it is now."""
        listing, size = _Listing(), 0
        with _opened(path) as root:
            for found in _walk(root, path):
                listing.add(found)
                size += found.size
        return cls(path=path, digest=listing.digest, size=size)

    def fetch(self, report: Callable[[int], None]) -> None:
        """Nothing has to come from elsewhere."""
        report(self.size)

    def entries(self) -> Iterator[Entry]:
        """The tree, directories before what is in them, in the order of names; ImageFailed if it has changed."""
        listing, first_names = _Listing(), {}  # type: _Listing, dict[tuple[int, int], bytes]
        with _opened(self.path) as root:
            for found in _walk(root, self.path):
                listing.add(found)
                with closing(_content(found)) as content:  # whoever stops amid a file may keep an error that holds it
                    yield _entry(found, first_names, content)
        if listing.digest != self.digest:
            raise _changed(self.path)


@attrs.frozen(kw_only=True)
class _Found:
    """A name in the tree: *parent* is an open directory until the next one is asked for."""

    parent: int
    top: str
    path: bytes
    name: bytes
    about: os.stat_result
    target: bytes = b""

    @property
    def shown(self) -> str:
        return _shown(self.top, self.path)

    @property
    def kind(self) -> Kind:
        return _KINDS[stat.S_IFMT(self.about.st_mode)]

    @property
    def size(self) -> int:
        return self.about.st_size if self.kind is Kind.FILE else 0

    @property
    def identity(self) -> tuple[int, int]:
        return self.about.st_dev, self.about.st_ino


class _Listing:
    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"aegis directory 1\n")

    def add(self, found: _Found) -> None:
        about = found.about
        numbers = (
            about.st_ino, about.st_size if found.kind is not Kind.DIRECTORY else 0, about.st_mtime_ns,
            about.st_ctime_ns, about.st_mode, about.st_uid, about.st_gid, about.st_rdev,
        )  # fmt: skip
        for field in (found.path, found.target, repr(numbers).encode()):
            self._hash.update(b"%d:%b" % (len(field), field))

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _walk(root: int, top: str) -> Iterator[_Found]:
    """Everything below an open directory, and itself, on its file system; no link is followed."""
    first = _Found(parent=root, top=top, path=b".", name=b".", about=os.fstat(root))
    yield first
    pending = [first]
    while pending:
        above, below = pending.pop(), []
        with _translated(top, above.path), _directory(root, above) as directory:
            for name in _names(directory):
                found = _look(directory, above, name)
                yield found
                # What is mounted there belongs to the host, not to the tree.
                if found.kind is Kind.DIRECTORY and found.about.st_dev == first.about.st_dev:
                    below.append(found)
        pending += reversed(below)


def _names(directory: int) -> list[bytes]:
    with os.scandir(directory) as found:
        return sorted(os.fsencode(entry.name) for entry in found)


def _look(directory: int, above: _Found, name: bytes) -> _Found:
    path = name if above.path == b"." else above.path + b"/" + name
    with _translated(above.top, path):
        about = os.stat(name, dir_fd=directory, follow_symlinks=False)
        target = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(about.st_mode) else b""
    if name.startswith(_REMOVAL):
        shown = _shown(above.top, path)
        raise ImageFailed(f"{shown}: in an image, a name that starts with .wh. is a removal", hint="rename the file")
    return _Found(parent=directory, top=above.top, path=path, name=name, about=about, target=target)


def _entry(found: _Found, first_names: dict[tuple[int, int], bytes], content: Iterator[bytes]) -> Entry:
    about, kind = found.about, found.kind
    if kind is not Kind.DIRECTORY and about.st_nlink > 1:
        first = first_names.setdefault(found.identity, found.path)
        if first != found.path:
            return Entry(path=found.path, kind=Kind.HARDLINK, target=first)
    return Entry(
        path=found.path,
        kind=kind,
        metadata=Metadata(
            permissions=stat.S_IMODE(about.st_mode),
            uid=about.st_uid,
            gid=about.st_gid,
            mtime_ns=about.st_mtime_ns,
            xattrs=_xattrs(found),
        ),
        content=content if kind is Kind.FILE else (),
        size=found.size,
        target=found.target,
        device=(os.major(about.st_rdev), os.minor(about.st_rdev)) if kind in _DEVICES else (0, 0),
    )


def _xattrs(found: _Found) -> Mapping[bytes, bytes]:
    if sys.platform != "linux":
        return {}
    # There is no fgetxattr for links, devices and sockets; the way over /proc follows no link but the kernel's own.
    path = b"/proc/self/fd/%d/%b" % (found.parent, found.name)
    with _translated(found.top, found.path):
        names = _permitted(lambda: os.listxattr(path, follow_symlinks=False)) or []
        read = partial(os.getxattr, path, follow_symlinks=False)
        values = ((os.fsencode(name), _permitted(partial(read, name))) for name in names)
        return {name: value for name, value in values if value is not None}


def _permitted(read: Callable[[], T]) -> T | None:
    """What *read* gives; None if this user may not have it, or it is not there."""
    try:
        return read()
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return None
        raise


def _content(found: _Found) -> Generator[bytes, None, None]:
    with _translated(found.top, found.path), _file(found) as file:
        _require_same(file, found)
        while piece := os.read(file, _PIECE):
            yield piece
        _require_same(file, found)


@contextmanager
def _file(found: _Found) -> Iterator[int]:
    handle = open_below(found.parent, [found.name])
    try:
        yield handle
    finally:
        os.close(handle)


def _require_same(file: int, found: _Found) -> None:
    if _state(os.fstat(file)) != _state(found.about):
        raise _changed(found.shown)


def _state(about: os.stat_result) -> tuple[int, ...]:
    return about.st_mode, about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _changed(shown: str) -> ImageFailed:
    return ImageFailed(f"{shown} was changed while it was read", hint="try again when nothing writes to it")


@contextmanager
def _opened(path: str) -> Iterator[int]:
    with _translated(path, b"."), opened(path) as root:
        yield root


@contextmanager
def _directory(root: int, found: _Found) -> Iterator[int]:
    handle = os.open(found.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    try:
        # Whatever the way has become meanwhile, it has led to the directory that was seen, or to nothing.
        if not os.path.samestat(os.fstat(handle), found.about):
            raise _changed(found.shown)
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _translated(top: str, path: bytes) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise ImageFailed(
            f"{_shown(top, path)} cannot be read: {error.strerror}",
            hint="make it readable for this user, or run Aegis as one who may read it",
        ) from error
    except OSError as error:
        if error.errno in _VANISHED:
            raise _changed(_shown(top, path)) from error
        raise ImageFailed(f"{_shown(top, path)} cannot be read: {error.strerror}") from error


def _shown(top: str, path: bytes) -> str:
    return printable(str(Path(top, path.decode(errors="backslashreplace"))))
