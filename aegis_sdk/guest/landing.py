"""A file or a tree from a guest, made on this machine below one directory, and nowhere else.

The guest may send anything. Names are single names; each directory is made, or opened without following a link, by the
descriptor of the one that it is in; each file and link is made new. So whatever comes, and whoever changes the tree
meanwhile, nothing is written through a link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Self, TypeVar

import attrs

from aegis_sdk.entries import Transferred
from aegis_sdk.errors import LimitExceeded
from aegis_sdk.guest.files import Entry, FileCall, Kind, parse_entry
from aegis_sdk.guest.sending import DEEPEST, Tally, here

T = TypeVar("T")

_BLOCK = 4096
_LARGEST = 1 << 63
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK
_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TRIES = 10


@attrs.frozen(kw_only=True)
class Limits:
    """What a guest may make here: *bytes* of contents, of which each hole counts as a block, and *entries*."""

    bytes: int
    entries: int


@attrs.frozen
class _Level:
    """A directory on the way to where the next entry goes; *made* if it is new, and to get its mode and time."""

    fd: int
    path: bytes
    entry: Entry
    made: bool


@attrs.define
class _File:
    """The file that is being written."""

    fd: int
    path: bytes
    entry: Entry
    at: int = 0
    trailing: bool = False  # it ends with a hole so far


@attrs.define
class Landing:
    """Makes what arrives by *call*; *setuid* keeps the bits that make a program run as its owner."""

    call: FileCall
    limits: Limits
    setuid: bool = False
    tally: Tally = attrs.field(factory=Tally, init=False)
    _spent: int = attrs.field(default=0, init=False)
    _entries: int = attrs.field(default=0, init=False)
    _levels: list[_Level] = attrs.field(factory=list, init=False)
    _file: _File | None = attrs.field(default=None, init=False)
    _floor: int = attrs.field(default=0, init=False)  # how many of them the guest cannot leave
    _renamed: tuple[bytes, bytes] | None = attrs.field(default=None, init=False)
    _undo: list[Callable[[], None]] = attrs.field(factory=list, init=False)

    def land(self, destination: str, *, name: str) -> Transferred:
        """Make it at *destination*: a directory is merged with one there, a file put into it as *name*.

        What was made new is removed if it cannot be finished; LimitExceeded if it is too much.
        """
        with self:
            entry = self._first()
            there = os.path.isdir(destination)  # noqa: PTH112  # as text, which may hold any bytes
            if entry.kind == "directory" and there:
                self._start_in(os.fsencode(destination), entry)
            elif entry.kind == "file" and (there or destination.endswith("/")):
                if name in ("", ".", ".."):
                    self.call.violated("the guest sent a file where there can only be a directory")
                self._start_as(os.fsencode(destination.rstrip("/") + "/" + name), entry)
            else:
                self._start_as(os.fsencode(destination.rstrip("/")), entry)
            self._take_all()
        return self.tally.total()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._undo.clear()
        if file := self._file:
            os.close(file.fd)
            with suppress(OSError):
                os.unlink(file.entry.name, dir_fd=self._levels[-1].fd)
        for undo in reversed(self._undo):
            with suppress(OSError):
                undo()
        for level in self._levels:
            os.close(level.fd)

    def _first(self) -> Entry:
        entry = self.call.entry()
        if entry is None or entry.kind not in ("file", "directory"):
            self.call.violated("the guest sent neither a file nor a directory")
        return entry

    def _start_in(self, path: bytes, entry: Entry) -> None:
        """Merge a directory with the one at *path*."""
        with here(path):
            fd = os.open(path, _ENTER)
        self._levels.append(_Level(fd, path, entry, made=False))
        self._count(entry)

    def _start_as(self, path: bytes, entry: Entry) -> None:
        parent, name = os.path.split(path)
        self._floor = 1
        with here(parent):
            fd = _entered(parent or b".")
        self._levels.append(_Level(fd, parent, Entry("directory", 0), made=False))
        if entry.kind == "file":
            self._start_file(attrs.evolve(entry, name=name), fd)
        else:
            self._enter(attrs.evolve(entry, name=name))
            if self._levels[-1].made:
                self._undo.append(lambda: remove_tree(fd, name))

    def _start_file(self, entry: Entry, parent: int) -> None:
        """Write a file under another name, which it has until it is whole."""
        with here(self._path(entry)):
            _replaceable(entry.name, parent)
        name = b".%s.%s.part" % (entry.name[:200], os.urandom(6).hex().encode())
        self._begin(attrs.evolve(entry, name=name))
        self._undo.append(lambda: os.unlink(name, dir_fd=parent))
        self._renamed = (name, entry.name)

    def _take_all(self) -> None:
        while True:
            kind, payload = self.call.next(Kind.ENTRY, Kind.DATA, Kind.HOLE, Kind.LEAVE)
            if kind is Kind.DATA:
                self._write(payload)
            elif kind is Kind.ENTRY:
                self._take(self.call.parsed(parse_entry, payload))
            elif kind is Kind.HOLE:
                self._hole(bytes(payload))
            elif kind is Kind.LEAVE:
                self._leave()
            else:
                return self._end()

    def _take(self, entry: Entry) -> None:
        if len(self._levels) == self._floor:
            self.call.violated("the guest sent an entry that is in no directory")
        if entry.name in (b"", b".", b"..") or b"/" in entry.name:
            self.call.violated(f"the guest sent {entry.name[:80]!r} as a name")
        self._finish()
        if entry.kind == "directory":
            self._enter(entry)
        elif entry.kind == "file":
            self._begin(entry)
        elif entry.kind == "link":
            self._link(entry)
        else:
            self.tally.leave_out(self._path(entry))
            self._count(entry)

    def _count(self, entry: Entry) -> None:
        self._entries += 1
        if self._entries > self.limits.entries:
            raise LimitExceeded(
                f"there are more than {self.limits.entries} files and directories", hint="raise entries="
            )
        if entry.kind in self.tally.kinds:
            self.tally.kinds[entry.kind] += 1

    def _path(self, entry: Entry) -> bytes:
        return self._levels[-1].path + b"/" + entry.name

    def _enter(self, entry: Entry) -> None:
        self._count(entry)
        if len(self._levels) > DEEPEST:
            raise LimitExceeded(f"there are more than {DEEPEST} directories in each other")
        path, parent, made = self._path(entry), self._levels[-1].fd, True
        with here(path):
            try:
                os.mkdir(entry.name, 0o700, dir_fd=parent)
            except FileExistsError:
                made = False
            fd = os.open(entry.name, _ENTER | os.O_NOFOLLOW, dir_fd=parent)
        self._levels.append(_Level(fd, path, entry, made))

    def _leave(self) -> None:
        if len(self._levels) == self._floor:
            self.call.violated("the guest left a directory that it was not in")
        self._finish()
        level = self._levels.pop()
        try:
            if level.made:
                self._dress(level.fd, level.entry, level.path)
        finally:
            os.close(level.fd)

    def _begin(self, entry: Entry) -> None:
        self._count(entry)
        path, parent = self._path(entry), self._levels[-1].fd
        fd = self._made(entry, lambda: os.open(entry.name, _FRESH, 0o600, dir_fd=parent))
        self._file = _File(fd, path, entry)

    def _link(self, entry: Entry) -> None:
        self._count(entry)
        parent = self._levels[-1].fd
        self._made(entry, lambda: os.symlink(entry.target, entry.name, dir_fd=parent))
        with here(self._path(entry)):
            os.utime(entry.name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _made(self, entry: Entry, make: Callable[[], T]) -> T:
        """What *make* makes, in the place of a file or link that is there."""
        with here(self._path(entry)):
            for _ in range(_TRIES):
                try:
                    return make()
                except FileExistsError:
                    _replaceable(entry.name, self._levels[-1].fd)
                    with suppress(FileNotFoundError):
                        os.unlink(entry.name, dir_fd=self._levels[-1].fd)
            return make()

    def _write(self, data: memoryview) -> None:
        if not data:
            return
        file = self._writing()
        self.tally.size += len(data)
        self._spend(len(data))
        file.at += len(data)
        file.trailing = False
        with here(file.path):
            while data:
                data = data[os.write(file.fd, data) :]

    def _hole(self, payload: bytes) -> None:
        file, size = self._writing(), int.from_bytes(payload, "big")
        if len(payload) != 8 or not 0 < size < _LARGEST - file.at:
            self.call.violated(f"the guest sent a hole of {size} bytes")
        self._spend(_BLOCK)
        file.at += size
        file.trailing = True
        with here(file.path):
            os.lseek(file.fd, file.at, os.SEEK_SET)

    def _writing(self) -> _File:
        if not self._file:
            self.call.violated("the guest sent contents of no file")
        return self._file

    def _spend(self, size: int) -> None:
        self._spent += size
        if self._spent > self.limits.bytes:
            raise LimitExceeded(f"there are more than {self.limits.bytes} bytes", hint="raise limit=")

    def _finish(self) -> None:
        """End the file that is being written."""
        if not (file := self._file):
            return
        with here(file.path):
            if file.trailing:
                os.ftruncate(file.fd, file.at)
            self._dress(file.fd, file.entry, file.path)
        self._file = None
        os.close(file.fd)

    def _dress(self, fd: int, entry: Entry, path: bytes) -> None:
        with here(path):
            os.fchmod(fd, entry.mode & (0o7777 if self.setuid else 0o1777))
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def _end(self) -> None:
        self._finish()
        if len(self._levels) != self._floor:
            self.call.violated("the guest ended in the midst of a directory")
        if self._renamed:
            parent, (name, final) = self._levels[0], self._renamed
            with here(parent.path + b"/" + final):
                os.rename(name, final, src_dir_fd=parent.fd, dst_dir_fd=parent.fd)


def _replaceable(name: bytes, directory: int) -> None:
    """FileExistsError for a device, FIFO or socket, such as /dev/null: others use it, and it cannot be had back."""
    with suppress(FileNotFoundError):
        about = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_IFMT(about.st_mode) not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR):
            raise FileExistsError(errno.EEXIST, "a device, FIFO or socket, which is not replaced")


def _entered(path: bytes) -> int:
    try:
        return os.open(path, _ENTER)
    except FileNotFoundError:
        os.makedirs(path, exist_ok=True)  # noqa: PTH103  # bytes, which may be any
        return os.open(path, _ENTER)


def remove_tree(directory: int, name: bytes) -> None:
    """Remove a directory with all that is in it, following nothing."""
    fd = os.open(name, _ENTER | os.O_NOFOLLOW, dir_fd=directory)
    try:
        os.fchmod(fd, 0o700)
        for each in os.listdir(fd):  # noqa: PTH208
            try:
                os.unlink(each, dir_fd=fd)
            except (IsADirectoryError, PermissionError):  # the latter on macOS
                remove_tree(fd, os.fsencode(each))
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=directory)
