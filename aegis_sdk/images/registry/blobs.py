"""Blobs of registries on disk, each under its digest: whole and verified, or not there."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import attrs

from aegis_sdk.artifacts import private
from aegis_sdk.errors import ImageFailed, ImageInvalid
from aegis_sdk.images import digests

if TYPE_CHECKING:
    from hashlib import _Hash

#: Gives a blob's bytes from an offset on, each piece with its own: where the last one ended, or 0 to begin anew.
Pieces = Callable[[int], Generator[tuple[int, bytes], None, None]]
Report = Callable[[int], None]

_PARTIAL = ".partial"
_GIVEN_UP = 24 * 3600.0
_CHUNK = 1 << 20
_RESERVE = 16 << 20  # a disk is not filled to its last block by us
_POLL = 0.05
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@attrs.frozen
class Blobs:
    """The blobs in *directory*, each a file that never changes."""

    directory: Path

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self.directory / digests.valid(digest).replace(":", "-")

    def get(self, digest: str, *, size: int, pieces: Pieces, report: Report) -> None:
        """Have the blob here, verified, from *pieces* if need be; *report* takes the bytes present, and may raise.

        Of several that want one blob at once, processes or threads, one downloads it. What an interrupted download
        leaves is gone on with by the next. ImageInvalid if the bytes are not what *digest* and *size* say.
        """
        path = self.path(digest)
        with _translated(path):
            private(self.directory)
            while not _is_whole(path, digest, size=size, report=report):
                with _claimed(_partial(path), report) as handle:
                    # Whoever had the claim before may have finished it meanwhile.
                    if handle is not None and not os.path.lexists(path):
                        _Download(handle, digest, size, pieces, report).run()
                        _partial(path).rename(path)
                        os.fchmod(handle, 0o444)
                        _sync(self.directory)
                        return

    def open(self, digest: str) -> BinaryIO:
        """The bytes of a blob that is here."""
        return os.fdopen(os.open(self.path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")

    def size_on_disk(self, digest: str) -> int:
        """The bytes that the blob takes on disk; 0 if it is not here."""
        return _taken(self.path(digest))

    def remove(self, digest: str) -> int:
        """Remove the blob, whoever reads or wants it now; the bytes that are free for it."""
        path = self.path(digest)
        taken = _taken(path)
        path.unlink(missing_ok=True)
        return taken

    def keep_only(self, wanted: Collection[str]) -> int:
        """Remove the blobs that are not *wanted*, and downloads given up for a day; the bytes that are free for it."""
        names = (path.name.replace("-", ":", 1) for path in self._files() if path.suffix != _PARTIAL)
        unwanted = {name for name in names if _is_digest(name)} - set(wanted)
        return sum(map(self.remove, unwanted)) + self.discard_partials(unchanged_for=_GIVEN_UP)

    def discard_partials(self, *, unchanged_for: float) -> int:
        """Remove the downloads that nobody has gone on with for that many seconds; the bytes that are free for it."""
        freed = 0
        for path in self._files():
            if path.suffix == _PARTIAL and _age(path) >= unchanged_for:
                freed += _discard(path)
        return freed

    def _files(self) -> list[Path]:
        try:
            return sorted(self.directory.iterdir())
        except FileNotFoundError:
            return []


@attrs.define
class _Download:
    """One blob on its way into the file *handle*, which is this process's alone."""

    _handle: int
    _digest: str
    _size: int
    _pieces: Pieces
    _report: Report
    _position: int = attrs.field(default=0, init=False)
    _hash: _Hash = attrs.field(init=False)

    def run(self) -> None:
        """Make it whole; what is not what it should be does not stay."""
        resumed = self._resume()
        try:
            self._check_room()
            self._receive()
            if resumed and not self._matches():
                # What a killed process or a crashed system left was not what it had been given.
                self._restart()
                self._receive()
            if not self._matches():
                raise ImageInvalid(f"what was downloaded as {self._digest} is not what its digest names")
        except ImageInvalid:
            self._restart()
            raise
        os.fsync(self._handle)

    def _resume(self) -> bool:
        self._hash = digests.hasher(self._digest)
        self._position = 0
        os.lseek(self._handle, 0, os.SEEK_SET)
        if os.fstat(self._handle).st_size > self._size:
            os.ftruncate(self._handle, 0)
        while chunk := os.read(self._handle, _CHUNK):
            self._hash.update(chunk)
            self._position += len(chunk)
        self._report(self._position)
        return self._position > 0

    def _restart(self) -> None:
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        self._hash = digests.hasher(self._digest)
        self._position = 0

    def _receive(self) -> None:
        if self._position == self._size:
            return
        with closing(self._pieces(self._position)) as pieces:
            for offset, data in pieces:
                self._take(offset, data)
        if self._position < self._size:
            raise ImageInvalid(f"{self._digest} has {self._position} bytes, and its image says {self._size}")

    def _take(self, offset: int, data: bytes) -> None:
        if offset != self._position:
            self._restart()
        if self._position + len(data) > self._size:
            raise ImageInvalid(f"{self._digest} has more than the {self._size} bytes that its image says")
        self._write(data)
        self._hash.update(data)
        self._report(self._position)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.write(self._handle, rest)
            rest = rest[written:]
        self._position += len(data)

    def _matches(self) -> bool:
        return self._hash.hexdigest() == self._digest.partition(":")[2]

    def _check_room(self) -> None:
        about = os.fstatvfs(self._handle)
        free, needed = about.f_bavail * about.f_frsize, self._size - self._position + _RESERVE
        if free < needed:
            raise OSError(errno.ENOSPC, f"it takes {needed >> 20} MiB, and {free >> 20} MiB are free")


@contextmanager
def _claimed(path: Path, report: Report) -> Iterator[int | None]:
    """The partial file, locked; None if it has gone meanwhile, and all is to be looked at again."""
    handle = _open_partial(path)
    try:
        while not _lock(handle):
            # Another one downloads; its progress is ours, and our caller may lose patience.
            report(os.fstat(handle).st_size)
            time.sleep(_POLL)
        with _without_empty(path, handle):
            yield handle if _is_still(path, handle) else None
    finally:
        os.close(handle)


@contextmanager
def _without_empty(path: Path, handle: int) -> Iterator[None]:
    try:
        yield
    finally:
        if _is_still(path, handle) and not os.fstat(handle).st_size:
            path.unlink()


def _open_partial(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        path.unlink(missing_ok=True)
        handle = os.open(path, flags | os.O_EXCL, 0o600)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EEXIST, "it is no regular file")
    return handle


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(handle))
    except FileNotFoundError:
        return False


def _is_whole(path: Path, digest: str, *, size: int, report: Report) -> bool:
    """Whether the blob is there; whatever else stands in its place is removed."""
    try:
        about = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(about.st_mode) or _hashed(path, digest, report) != digest:
        # Another one may have replaced it since; then that is fetched again, and nothing worse.
        path.unlink(missing_ok=True)
        return False
    if about.st_size != size:
        raise ImageInvalid(f"{digest} has {about.st_size} bytes, and its image says {size}")
    return True


def _hashed(path: Path, digest: str, report: Report) -> str:
    hashed, done = digests.hasher(digest), 0
    with suppress(FileNotFoundError), os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        while chunk := file.read(_CHUNK):
            hashed.update(chunk)
            done += len(chunk)
            report(done)
    return f"{digest.partition(':')[0]}:{hashed.hexdigest()}"


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ImageFailed(
                f"there is no room for a blob of the image in {path.parent}: {error.strerror}",
                hint="aegis image prune frees what no image uses",
            ) from error
        raise ImageFailed(f"a blob of the image cannot be kept at {path}: {error.strerror}") from error


def _discard(path: Path) -> int:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        path.unlink(missing_ok=True)  # a symbolic link, or a file that is not ours to read
        return 0
    try:
        # Removed under its lock, which a download holds: whoever waits for it looks again.
        if not _lock(handle) or not _is_still(path, handle):
            return 0
        taken = os.fstat(handle).st_blocks * 512
        path.unlink(missing_ok=True)
        return taken
    finally:
        os.close(handle)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + _PARTIAL)


def _taken(path: Path) -> int:
    try:
        return path.stat(follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0


def _is_digest(text: str) -> bool:
    with suppress(ImageInvalid):
        return bool(digests.valid(text))
    return False


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
