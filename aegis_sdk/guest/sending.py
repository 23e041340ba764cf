"""A file or a tree of this machine, on its way to a guest."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from aegis_sdk.entries import Kind as FileKind
from aegis_sdk.entries import Transferred
from aegis_sdk.errors import AegisError, InvalidValue, LimitExceeded
from aegis_sdk.guest.files import Entry, FileCall, Kind, failed_here, text

#: How many directories may be in each other.
DEEPEST = 256
#: How many paths of what was left out are told.
MOST_LEFT_OUT = 1000
_QUIETLY = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_KINDS: dict[int, FileKind] = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}


@attrs.define
class Tally:
    """Counts what is carried."""

    kinds: dict[FileKind, int] = attrs.field(factory=lambda: {"file": 0, "directory": 0, "link": 0})
    size: int = 0
    left_out: list[str] = attrs.field(factory=list)

    def leave_out(self, path: bytes) -> None:
        """Note what is neither a file, a directory nor a link."""
        if len(self.left_out) < MOST_LEFT_OUT:
            self.left_out.append(text(path))

    def total(self) -> Transferred:
        """What it came to."""
        return Transferred(
            files=self.kinds["file"],
            directories=self.kinds["directory"],
            links=self.kinds["link"],
            bytes=self.size,
            left_out=tuple(self.left_out),
        )


@attrs.define
class Sending:
    """Sends what is at a path; *setuid* keeps the bits that make a program run as its owner."""

    call: FileCall
    setuid: bool = False
    tally: Tally = attrs.field(factory=Tally)

    def send(self, source: str) -> Transferred:
        """Send what *source* leads to, and wait until the guest has it."""
        path = os.fsencode(source)
        with _opened(path, flags=_QUIETLY) as fd:
            about = os.fstat(fd)
            if _kind(about) not in ("file", "directory"):
                raise InvalidValue(f"{source!r} is neither a file nor a directory")
            self._thing(fd, about, path, b".", depth=0)
        self.call.send(Kind.END, b"{}")
        self.call.flush()
        self.call.finish()
        return self.tally.total()

    def _thing(self, fd: int, about: os.stat_result, path: bytes, name: bytes, *, depth: int) -> None:
        self._head(about, name)
        if _kind(about) == "file":
            self._contents(fd, about, path)
            return
        if depth >= DEEPEST:
            raise LimitExceeded(f"{text(path)} has more than {DEEPEST} directories in each other")
        with here(path):
            names = sorted(os.fsencode(entry) for entry in os.listdir(fd))
        for each in names:
            self._entry(fd, path + b"/" + each, each, depth=depth + 1)
        self.call.send(Kind.LEAVE)

    def _entry(self, directory: int, path: bytes, name: bytes, *, depth: int) -> None:
        try:
            about = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return  # it has just been removed
        kind = _kind(about)
        if kind == "link":
            with here(path):
                self._head(about, name, target=os.readlink(name, dir_fd=directory))
        elif kind is None:
            self.tally.leave_out(path)
        else:
            with _opened(name, flags=_QUIETLY | os.O_NOFOLLOW, directory=directory, path=path) as fd:
                about = os.fstat(fd)
                if _kind(about):  # it may have been exchanged
                    self._thing(fd, about, path, name, depth=depth)

    def _head(self, about: os.stat_result, name: bytes, *, target: bytes = b"") -> None:
        kind = _kind(about)
        assert kind  # noqa: S101  # others are left out
        self.tally.kinds[kind] += 1
        seconds, nanoseconds = divmod(about.st_mtime_ns, 10**9)
        mode = stat.S_IMODE(about.st_mode) & (0o7777 if self.setuid else 0o1777)
        entry = Entry(
            kind, mode, size=about.st_size, seconds=seconds, nanoseconds=nanoseconds, name=name, target=target
        )
        self.call.send(Kind.ENTRY, entry.encode())

    def _contents(self, fd: int, about: os.stat_result, path: bytes) -> None:
        with here(path):
            if about.st_size and about.st_blocks * 512 < about.st_size:
                self._sparse(fd)
            else:
                self._data(fd, None)

    def _data(self, fd: int, most: int | None) -> None:
        while most != 0:
            space = self.call.space()
            size = os.readv(fd, [space[:most] if most else space])
            if not size:
                return
            self.call.filled(size)
            self.tally.size += size
            most = None if most is None else most - size

    def _sparse(self, fd: int) -> None:
        size, at = os.fstat(fd).st_size, 0
        for start, end in _data_of(fd):
            if start > at:
                self._hole(start - at)
            os.lseek(fd, start, os.SEEK_SET)
            self._data(fd, end - start)
            at = end
        if size > at:
            self._hole(size - at)

    def _hole(self, size: int) -> None:
        self.call.send(Kind.HOLE, size.to_bytes(8, "big"))


def _data_of(fd: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are not holes."""
    end = 0
    while True:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:  # there is no more
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def _kind(about: os.stat_result) -> FileKind | None:
    return _KINDS.get(stat.S_IFMT(about.st_mode))


@contextmanager
def here(path: bytes) -> Iterator[None]:
    """Say of an error of this machine's which path it is about."""
    try:
        yield
    except AegisError:  # of the guest's, or about the guest
        raise
    except OSError as error:
        raise failed_here(error, text(path)) from error


@contextmanager
def _opened(name: bytes, *, flags: int, directory: int | None = None, path: bytes = b"") -> Iterator[int]:
    with here(path or name):
        fd = os.open(name, flags, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)
