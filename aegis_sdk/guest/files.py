"""The connection of one file call: frames both ways, in batches, each checked before it is believed."""

from __future__ import annotations

import enum
import errno
import json
import select
import struct
import threading
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

import attrs

from aegis_sdk import errors
from aegis_sdk.entries import Change, ChangeKind, FileInfo
from aegis_sdk.entries import Kind as FileKind
from aegis_sdk.errors import AegisError, FileFailed, GuestNotResponding, ProtocolViolation, SandboxClosed
from aegis_sdk.guest.channel import FRAME_LIMIT, HEADER, Channel
from aegis_sdk.model import printable

T = TypeVar("T")

#: Seconds in which a guest must take or give something.
PATIENCE = 60.0
_BATCH = 1 << 18
_SHORT = 1 << 14  # the longest payload but data's
_LEAST = 1 << 14  # for data it is not worth to begin a frame in less
_ENTRY = struct.Struct(">cIIIQqIH")
_CHANGE = struct.Struct(">cH")
_KINDS: dict[bytes, FileKind] = {
    b"f": "file",
    b"d": "directory",
    b"l": "link",
    b"p": "fifo",
    b"s": "socket",
    b"b": "block device",
    b"c": "character device",
}
_CHANGES: dict[bytes, ChangeKind] = {
    b"c": "created",
    b"m": "modified",
    b"r": "removed",
    b"v": "moved",
    b"o": "overflow",
}


class Kind(enum.IntEnum):
    """What a frame of a file call carries."""

    DATA = 0
    HOLE = 1
    ENTRY = 2
    LEAVE = 3
    END = 4
    FAILED = 5
    READ = 6
    WRITE = 7
    RESIZE = 8
    CHANGE = 9


_FROM_GUEST = frozenset({Kind.DATA, Kind.HOLE, Kind.ENTRY, Kind.LEAVE, Kind.END, Kind.FAILED, Kind.CHANGE})


@attrs.frozen
class Entry:
    """One thing in a directory, as it travels; its name as the bytes that it is."""

    kind: FileKind
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    seconds: int = 0
    nanoseconds: int = 0
    name: bytes = b""
    target: bytes = b""

    @property
    def mtime_ns(self) -> int:
        """When it was last modified."""
        return self.seconds * 10**9 + self.nanoseconds

    def encode(self) -> bytes:
        """The payload of its frame."""
        kind = next(letter for letter, kind in _KINDS.items() if kind == self.kind)
        numbers = (self.mode, self.uid, self.gid, self.size, self.seconds, self.nanoseconds)
        return _ENTRY.pack(kind, *numbers, len(self.name)) + self.name + self.target

    def info(self, path: str) -> FileInfo:
        """The same for users, being at *path*."""
        return FileInfo(
            name=path.rstrip("/").rpartition("/")[2] or "/",
            path=path,
            kind=self.kind,
            size=self.size,
            mode=self.mode,
            uid=self.uid,
            gid=self.gid,
            mtime_ns=self.mtime_ns,
            target=text(self.target) if self.kind == "link" else None,
        )


def text(name: bytes) -> str:
    """A name as Python has it: bytes that are no UTF-8 as lone surrogates."""
    return name.decode("utf-8", "surrogateescape")


def parse_entry(payload: bytes) -> Entry:
    """What a frame says of a thing; ProtocolViolation if there can be no such thing."""
    if len(payload) < _ENTRY.size:
        raise ProtocolViolation(f"the guest sent an entry of {len(payload)} bytes")
    letter, mode, uid, gid, size, seconds, nanoseconds, length = _ENTRY.unpack_from(payload)
    name, target = payload[_ENTRY.size : _ENTRY.size + length], payload[_ENTRY.size + length :]
    kind = _KINDS.get(letter)
    if (
        kind is None
        or mode > 0o7777
        or size >= 1 << 63
        or nanoseconds >= 10**9
        or len(name) != length
        or b"\0" in payload[_ENTRY.size :]
        or bool(target) != (kind == "link")
    ):
        raise ProtocolViolation(f"the guest sent an entry that cannot be: {payload[:80]!r}")
    return Entry(kind, mode, uid, gid, size, seconds, nanoseconds, name, target)


def parse_change(payload: bytes) -> Change:
    """What a frame says that happened."""
    if len(payload) < _CHANGE.size:
        raise ProtocolViolation(f"the guest sent a change of {len(payload)} bytes")
    letter, length = _CHANGE.unpack_from(payload)
    path, source = payload[_CHANGE.size : _CHANGE.size + length], payload[_CHANGE.size + length :]
    kind = _CHANGES.get(letter)
    if kind is None or not path or len(path) != length or bool(source) != (kind == "moved"):
        raise ProtocolViolation(f"the guest sent a change that cannot be: {payload[:80]!r}")
    return Change(kind=kind, path=text(path), source=text(source) if source else None)


def parse_outcome(payload: bytes) -> FileFailed | None:
    """How a call went: what failed, or None."""
    try:
        words = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"the guest sent an outcome that is not JSON: {payload[:80]!r}") from error
    if words == {}:
        return None
    if not isinstance(words, dict) or set(words) != {"error", "path", "message"}:
        raise ProtocolViolation(f"the guest sent {payload[:80]!r} as an outcome")
    if not all(isinstance(word, str) for word in words.values()):
        raise ProtocolViolation(f"the guest sent {payload[:80]!r} as an outcome")
    return failed(words["error"], words["path"], words["message"], where="in the guest")


_FAILURES: dict[str, type[FileFailed]] = {
    "ENOENT": errors.FileMissing,
    "EEXIST": errors.FileExists,
    "EACCES": errors.FileDenied,
    "EPERM": errors.FileDenied,
    "ENOTDIR": errors.NotDirectory,
    "EISDIR": errors.IsDirectory,
    "ENOTEMPTY": errors.DirectoryNotEmpty,
    "ENOSPC": errors.NoSpace,
    "EDQUOT": errors.NoSpace,
    "EROFS": errors.ReadOnlyFiles,
}
_HINTS = {
    "EROFS": "write below /tmp, /run, /var or /workspace, or boot the guest with writable=True",
    "ENOSPC": "boot the guest with more disk=, which is part of its memory",
    "ENOTEMPTY": "remove(..., recursive=True) also removes what is in it",
}


def failed(name: str, path: str, message: str, *, where: str) -> FileFailed:
    """The error for what a kernel said: *name* is such as ENOENT."""
    hint = _HINTS.get(name, "") if where == "in the guest" else ""
    number = getattr(errno, name, None) if name in errno.errorcode.values() else None
    return _FAILURES.get(name, FileFailed)(
        f"{printable(path)} {where}: {printable(message)}", hint=hint, number=number, path=path
    )


def failed_here(error: OSError, path: str) -> FileFailed:
    """The error for what this machine's kernel said of a path of its own."""
    name = errno.errorcode.get(error.errno or 0, "")
    return failed(name, path, error.strerror or str(error), where="on this machine")


class FileCall:
    """One file call under way. One thread uses it; any may hang up.

    *on_loss* gives the error for a connection that ended; *on_violation* is told of a guest that breaks the protocol.
    """

    def __init__(
        self,
        channel: Channel,
        request: dict[str, object],
        *,
        on_loss: Callable[[], AegisError],
        on_violation: Callable[[], None],
    ) -> None:
        self._channel, self._on_loss, self._on_violation = channel, on_loss, on_violation
        self._using = threading.RLock()
        self._hung_up = False
        self._in = memoryview(bytearray(_BATCH))
        self._start = self._end = 0
        self._left = 0  # of the data frame that is being read
        self._out: memoryview | None = None  # most calls send nothing but their first line
        self._filled = 0
        try:
            channel.send_line({"call": "file", "time_ns": time.time_ns(), **request}, deadline=_patience())
        except TimeoutError as error:
            raise _silent() from error
        except OSError as error:
            raise on_loss() from error

    def next(self, *kinds: Kind, forever: bool = False) -> tuple[Kind, memoryview]:
        """The next frame, which is valid until the next call; a frame of data may come in several parts, or empty.

        A failure is raised; anything but *kinds* and the end is a violation.
        """
        with self._using:
            try:
                kind, payload = self._frame(forever=forever)
                if kind not in (*kinds, Kind.DATA, Kind.END, Kind.FAILED) or (
                    payload and kind is Kind.DATA and Kind.DATA not in kinds
                ):
                    raise ProtocolViolation(f"the guest sent a frame of kind {kind} where it means nothing")
                failure = parse_outcome(bytes(payload)) if kind in (Kind.END, Kind.FAILED) else None
            except ProtocolViolation:
                self._on_violation()
                raise
            if failure:
                try:
                    raise failure
                finally:  # else error and frame hold each other, and files that its callers forget stay open
                    del failure
            return kind, payload

    def entry(self) -> Entry | None:
        """The next entry; None at the end."""
        while True:
            kind, payload = self.next(Kind.ENTRY)
            if kind is Kind.ENTRY:
                return self.parsed(parse_entry, payload)
            if kind is Kind.END:
                return None

    def parsed(self, parse: Callable[[bytes], T], payload: memoryview) -> T:
        """What *parse* makes of a payload."""
        try:
            return parse(bytes(payload))
        except ProtocolViolation:
            self._on_violation()
            raise

    def violated(self, message: str) -> NoReturn:
        """End the guest, and say what it did."""
        self._on_violation()
        raise ProtocolViolation(message)

    def finish(self) -> None:
        """Wait for the end, before which nothing else may come."""
        while self.next()[0] is not Kind.END:
            pass

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Add a frame, with a short payload, to what is to be sent."""
        out = self._room(HEADER.size + len(payload))
        frame = HEADER.pack(kind, len(payload)) + payload
        out[self._filled : self._filled + len(frame)] = frame
        self._filled += len(frame)

    def space(self) -> memoryview:
        """Where data can be put, to be sent by ``filled``."""
        out = self._room(_LEAST)
        return out[self._filled + HEADER.size :]

    def filled(self, size: int) -> None:
        """Make a frame of data of what is at the beginning of the space."""
        out = self._room(0)
        HEADER.pack_into(out, self._filled, Kind.DATA, size)
        self._filled += HEADER.size + size

    def send_data(self, data: bytes | memoryview) -> None:
        """Send all of *data*, in frames."""
        left = memoryview(data)
        while left:
            space = self.space()
            size = min(len(space), len(left))
            space[:size], left = left[:size], left[size:]
            self.filled(size)

    def flush(self) -> None:
        """Send what was added; what the guest has refused meanwhile is raised."""
        out = self._room(0)
        left, self._filled = out[: self._filled], 0
        with self._using:
            try:
                while left and not self._answered():
                    if not self._channel.wait(select.POLLIN | select.POLLOUT, deadline=_patience()):
                        raise _silent()
                    left = left[self._channel.send_some(left) :]
            except OSError as error:
                if isinstance(error, AegisError):
                    raise
                self._refused()

    def hang_up(self) -> None:
        """End the connection, and with it the call; may be called from anywhere, signal handlers included."""
        self._hung_up = True
        self._channel.hang_up()

    def close(self) -> None:
        """End the connection, whoever is using it, and close it."""
        self.hang_up()
        with self._using:
            self._channel.close()

    def _answered(self) -> bool:
        """Take what the guest says while it is being sent to: a failure is raised."""
        while self._start < self._end or self._channel.wait(select.POLLIN, deadline=time.monotonic()):
            self.next()
        return False

    def _refused(self) -> None:
        """The guest takes no more: it has said why, or is gone."""
        while True:
            self.next()

    def _frame(self, *, forever: bool) -> tuple[Kind, memoryview]:
        if self._left:
            return Kind.DATA, self._data(forever=forever)
        self._need(HEADER.size, forever=forever)
        number, length = HEADER.unpack_from(self._in, self._start)
        self._start += HEADER.size
        if number not in _FROM_GUEST or length > (FRAME_LIMIT if number == Kind.DATA else _SHORT):
            raise ProtocolViolation(f"the guest sent a frame of kind {number} and {length} bytes")
        if number == Kind.DATA:
            self._left = length
            return Kind.DATA, self._data(forever=forever) if length else memoryview(b"")
        self._need(length)
        self._start += length
        return Kind(number), self._in[self._start - length : self._start]

    def _data(self, *, forever: bool) -> memoryview:
        self._need(1, forever=forever)
        part = self._in[self._start : min(self._end, self._start + self._left)]
        self._start += len(part)
        self._left -= len(part)
        return part

    def _need(self, size: int, *, forever: bool = False) -> None:
        """Have so many bytes, at least, after the start."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start + size > len(self._in):
            rest = bytes(self._in[self._start : self._end])
            self._start, self._end = 0, len(rest)
            self._in[: self._end] = rest
        while self._end - self._start < size:
            self._end += self._receive(None if forever else _patience())

    def _receive(self, deadline: float | None) -> int:
        try:
            size = self._channel.receive_into(self._in[self._end :], deadline=deadline)
        except TimeoutError as error:
            raise _silent() from error
        except OSError:  # which is how some systems tell the end
            size = 0
        if size:
            return size
        raise SandboxClosed("the call was given up") if self._hung_up else self._on_loss()

    def _room(self, size: int) -> memoryview:
        """The batch, with room for so many bytes after what is in it."""
        if self._out is None:
            self._out = memoryview(bytearray(_BATCH))
        if self._filled + size > _BATCH:
            self.flush()
        return self._out


def _patience() -> float:
    return time.monotonic() + PATIENCE


def _silent() -> GuestNotResponding:
    return GuestNotResponding(f"the guest has neither taken nor given anything for {PATIENCE:.0f} s")
