"""The files of a sandbox."""

from __future__ import annotations

import io
import os
import posixpath
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import IO, Any, Self

from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.loss import why_lost
from aegis_sdk.entries import Change, FileInfo, Transferred
from aegis_sdk.errors import FileMissing, InvalidValue, LimitExceeded, NotDirectory
from aegis_sdk.guest.channel import Channel
from aegis_sdk.guest.files import Entry, FileCall, Kind, parse_change, text
from aegis_sdk.guest.handle import GuestFile, flags
from aegis_sdk.guest.landing import Landing, Limits
from aegis_sdk.guest.sending import Sending
from aegis_sdk.model import SandboxInfo

GuestPath = str | os.PathLike[str]
HostPath = str | os.PathLike[str]
Contents = bytes | bytearray | memoryview | str | IO[bytes] | IO[str]

_READ_LIMIT = 1 << 30
_DOWNLOAD_LIMIT = 16 << 30
_ENTRIES_LIMIT = 1_000_000
_NAMES_LIMIT = 256 << 20
_LONGEST_PATH = 4095  # PATH_MAX, without its NUL
_BUFFER = 1 << 18  # each question and answer takes as long as a few hundred system calls
_PIECE = 1 << 18


class Files:
    """What a sandbox's files can be asked for.

    A path is absolute, or relative to the image's working directory; symbolic links are followed, in the guest. All is
    done as root, unless *user* names another, as for ``run``. Errors are FileMissing, FileDenied and the other kinds of
    FileFailed, which are Python's FileNotFoundError, PermissionError and so on, too; GuestDied if the guest ends first,
    and GuestNotResponding if it neither takes nor gives anything for a minute.
    """

    def __init__(self, engine: Engine, info: SandboxInfo) -> None:
        self._engine, self._info = engine, info
        self._lock = threading.Lock()
        self._calls: weakref.WeakSet[FileCall] = weakref.WeakSet()
        self._ended = False

    def read(self, path: GuestPath, *, limit: int = _READ_LIMIT, user: str | None = None) -> bytes:
        """All bytes of a file; LimitExceeded if there are more than *limit*, 1 GiB by default."""
        _whole("limit", limit)
        parts: list[bytes] = []
        with self._call("read", path, user=user) as call:
            size, got = _entry(call).size, 0
            while max(size, got) <= limit:
                kind, part = call.next(Kind.DATA)
                if kind is Kind.END:
                    return b"".join(parts)
                parts.append(bytes(part))
                got += len(part)
        hint = "raise limit=, or take it piece by piece with open() or download()"
        raise LimitExceeded(f"{path} has more than {limit} bytes", hint=hint)

    def read_text(
        self,
        path: GuestPath,
        *,
        encoding: str = "utf-8",
        errors: str = "strict",
        limit: int = _READ_LIMIT,
        user: str | None = None,
    ) -> str:
        """The same as text; UnicodeDecodeError if it is none and *errors* does not say otherwise."""
        return self.read(path, limit=limit, user=user).decode(encoding, errors)

    def write(self, path: GuestPath, data: Contents, *, mode: int | None = None, user: str | None = None) -> None:
        """Make *data* the contents of a file: bytes, text (as UTF-8), or what a file object still holds, of any size.

        Missing directories above it are made. A new file has *mode*, or 0o644; one that is there keeps its owner, and
        its mode unless there is a *mode*. It is emptied first: who reads it meanwhile sees a part. For all or nothing
        write beside it, and ``move``.
        """
        self._put(path, data, mode=mode, user=user, append=None)

    def append(self, path: GuestPath, data: Contents, *, mode: int | None = None, user: str | None = None) -> None:
        """Add *data* to the end of a file; otherwise as ``write``."""
        self._put(path, data, mode=mode, user=user, append=True)

    def open(
        self,
        path: GuestPath,
        mode: str = "r",
        *,
        buffering: int = -1,
        encoding: str = "utf-8",
        errors: str | None = None,
        newline: str | None = None,
        user: str | None = None,
    ) -> IO[Any]:
        """Open a file as Python's ``open`` does, in modes such as ``r``, ``wb``, ``a`` and ``x+``; close it after use.

        What is to be written makes missing directories above it.
        """
        wanted = flags(mode)
        call = self._begin("open", path, user=user, **wanted)
        try:
            raw = GuestFile(call, mode, self._place(path))
        except BaseException:
            call.close()
            raise
        if buffering == 0 and "b" in mode:
            return raw  # type: ignore[return-value]  # a file of bytes, as open() itself returns
        size = buffering if buffering > 1 else _BUFFER
        buffered: Any = io.BufferedRandom if "+" in mode else io.BufferedReader if "r" in mode else io.BufferedWriter
        file: IO[Any] = buffered(raw, size)
        if "b" in mode:
            return file
        return io.TextIOWrapper(file, encoding, errors, newline, line_buffering=buffering == 1)

    def list(self, path: GuestPath = ".", *, user: str | None = None) -> list[FileInfo]:
        """What is in a directory, by name; links are not followed. LimitExceeded beyond a million."""
        found: list[FileInfo] = []
        place, room = self._place(path), _NAMES_LIMIT
        with self._call("list", path, user=user) as call:
            while entry := call.entry():
                if entry.name in (b"", b".", b"..") or b"/" in entry.name:
                    call.violated(f"the guest sent {entry.name[:80]!r} as a name")
                found.append(entry.info(posixpath.join(place, text(entry.name))))
                room -= len(entry.name) + len(entry.target)
                if len(found) > _ENTRIES_LIMIT or room < 0:
                    limit = f"{_ENTRIES_LIMIT} files, or {_NAMES_LIMIT} bytes of names"
                    raise LimitExceeded(f"{place} holds more than {limit}")
        return sorted(found, key=lambda info: info.name)

    def stat(self, path: GuestPath, *, follow: bool = True, user: str | None = None) -> FileInfo:
        """What a file is; with *follow* false, a symbolic link itself."""
        with self._call("stat", path, user=user, follow=follow) as call:
            return _entry(call).info(self._place(path))

    def exists(self, path: GuestPath, *, user: str | None = None) -> bool:
        """Whether there is something; false for a symbolic link that leads nowhere."""
        try:
            self.stat(path, user=user)
        except (FileMissing, NotDirectory):
            return False
        return True

    def mkdir(self, path: GuestPath, *, mode: int | None = None, user: str | None = None) -> None:
        """Make a directory, with *mode* or 0o755, and the missing ones above it; fine if it is there."""
        self._do("mkdir", path, user=user, mode=_mode(mode))

    def move(self, source: GuestPath, destination: GuestPath, *, user: str | None = None) -> None:
        """Give a file or tree another name, in the place of a file or an empty directory that has it.

        *destination* is the new name, never a directory to put it into. Between file systems it is copied, and then
        removed.
        """
        self._do("move", source, user=user, to=self._place(destination))

    def remove(self, path: GuestPath, *, recursive: bool = False, user: str | None = None) -> None:
        """Remove a file, a symbolic link or an empty directory; with *recursive* a directory and all that is in it."""
        self._do("remove", path, user=user, recursive=recursive)

    def chmod(self, path: GuestPath, mode: int, *, user: str | None = None) -> None:
        """Set its permissions, such as 0o755."""
        self._do("chmod", path, user=user, mode=_mode(mode))

    def chown(self, path: GuestPath, owner: str) -> None:
        """Give it to *owner*: ``name`` or ``uid``, and that user's group, or with ``:group`` another."""
        self._do("chown", path, user=None, owner=owner)

    def upload(
        self, source: HostPath, destination: GuestPath, *, setuid: bool = False, user: str | None = None
    ) -> Transferred:
        """Copy a file or a tree of this machine into the guest.

        A directory becomes *destination*: what is in it is merged with a directory that is there. A file becomes
        *destination*, or goes into it if it is a directory or ends with a slash. Missing directories above are made;
        files and links that are there are replaced. Modes, times, links (as links), holes and empty directories
        survive, hard links become copies. The owner is root or *user*; set-user-ID bits are dropped without *setuid*.
        Devices, sockets and FIFOs are left out, and told; those that are there are not replaced. What is wrong on this
        machine is said to be there.
        """
        name = os.path.basename(os.path.abspath(_here(source)))  # noqa: PTH100, PTH119
        with self._call("upload", destination, user=user, name=name) as call:
            return Sending(call, setuid=setuid).send(_here(source))

    def download(
        self,
        source: GuestPath,
        destination: HostPath,
        *,
        limit: int = _DOWNLOAD_LIMIT,
        entries: int = _ENTRIES_LIMIT,
        setuid: bool = False,
        user: str | None = None,
    ) -> Transferred:
        """Copy a file or a tree of the guest to this machine, as ``upload`` does the other way.

        Owners are not taken over. LimitExceeded after *limit* bytes of contents (16 GiB) or *entries* files, links and
        directories (a million). Whatever the guest sends, nothing is written outside *destination*, and no device, FIFO
        or socket replaced. If it fails, what was made new is removed; of a tree that was merged, what was whole stays.
        """
        _whole("limit", limit)
        _whole("entries", entries)
        name = posixpath.basename(self._place(source).rstrip("/"))
        with self._call("download", source, user=user) as call:
            landing = Landing(call, Limits(bytes=limit, entries=entries), setuid=setuid)
            return landing.land(_here(destination), name=name)

    def watch(self, path: GuestPath, *, recursive: bool = False, user: str | None = None) -> Watch:
        """Iterate over what changes in a directory, or in a file, from now on; *recursive* also in those below it."""
        call = self._begin("watch", path, user=user, recursive=recursive)
        try:
            return Watch(call)
        except BaseException:
            call.close()
            raise

    def hang_up(self) -> None:
        """End all calls under way, and let none begin; may be called from any thread."""
        with self._lock:
            self._ended, calls = True, list(self._calls)
        for call in calls:
            call.hang_up()

    def apart(self) -> Files:
        """The same files, with calls of its own to hang up."""
        return Files(self._engine, self._info)

    def _put(self, path: GuestPath, data: Contents, *, mode: int | None, user: str | None, append: bool | None) -> None:
        pieces = _pieces(data)
        with self._call("write", path, user=user, mode=_mode(mode), append=append) as call:
            for piece in pieces:
                call.send_data(piece)
            call.send(Kind.END)
            call.flush()
            call.finish()

    def _do(self, op: str, path: GuestPath, *, user: str | None, **more: object) -> None:
        with self._call(op, path, user=user, **more) as call:
            call.finish()

    @contextmanager
    def _call(self, op: str, path: GuestPath, *, user: str | None, **more: object) -> Iterator[FileCall]:
        call = self._begin(op, path, user=user, **more)
        try:
            yield call
        finally:
            call.close()

    def _begin(self, op: str, path: GuestPath, *, user: str | None, **more: object) -> FileCall:
        place = self._place(path)
        request = {"op": op, "path": place, "user": user or None, **more}
        channel = Channel(self._engine.dial(self._info.id))
        try:
            call = FileCall(
                channel,
                {name: value for name, value in request.items() if value is not None},
                on_loss=partial(why_lost, self._engine, self._info.id, f"{op} of {place}"),
                on_violation=self._violated,
            )
        except BaseException:
            channel.close()
            raise
        with self._lock:
            self._calls.add(call)
            ended = self._ended
        if ended:
            call.hang_up()
        return call

    def _violated(self) -> None:
        self._engine.stop(self._info.id, grace=0.0)  # and not removed: it may be kept

    def _place(self, path: GuestPath) -> str:
        place = _path("a path", path)
        place = posixpath.join("/", self._info.config.cwd, place)
        if len(os.fsencode(place)) > _LONGEST_PATH:
            raise InvalidValue(f"a path of {len(place)} characters is too long: {place[:80]}...")
        return place


class Watch:
    """What changes, as it happens; iterating ends when it is closed, and when what is watched has gone.

    Changes that nobody takes wait in the guest, up to a bound; beyond that an ``overflow`` stands for what was lost.
    """

    def __init__(self, call: FileCall) -> None:
        self._call, self._closed = call, False
        if call.next()[0] is not Kind.DATA:
            call.violated("the guest does not begin to watch")
        self._release = weakref.finalize(self, call.close)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Change:
        kind = Kind.DATA
        try:
            while kind is Kind.DATA and not self._closed:
                kind, payload = self._call.next(Kind.CHANGE, forever=True)
                if kind is Kind.CHANGE:
                    return self._call.parsed(parse_change, payload)
        except BaseException as error:  # an interrupted one is over, too: nobody knows where it was
            closed = self._closed
            self.close()
            if not closed or not isinstance(error, Exception):
                raise
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Watch no more; whoever waits for a change waits no longer."""
        self._closed = True
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _entry(call: FileCall) -> Entry:
    if not (entry := call.entry()):
        call.violated("the guest does not say what a file is")
    return entry


def _path(what: str, path: str | os.PathLike[str]) -> str:
    try:
        place = os.fspath(path)
    except TypeError:
        raise InvalidValue(f"{what} must be text or a Path, not {path!r}") from None
    if not isinstance(place, str) or not place or "\0" in place:
        raise InvalidValue(f"{what} must be text, not empty and without NUL; not {place!r}")
    try:
        os.fsencode(place)
    except UnicodeEncodeError as error:
        raise InvalidValue(f"{what} is not text that UTF-8 can hold: {place!r}") from error
    return place


def _here(path: HostPath) -> str:
    return _path("a path on this machine", path)


def _mode(mode: int | None) -> int | None:
    if mode is not None:
        _whole("mode", mode, at_least=0, at_most=0o7777)
    return mode


def _whole(name: str, value: int, *, at_least: int = 1, at_most: int = 1 << 63) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= at_most:
        raise InvalidValue(f"{name} must be a whole number from {at_least} to {at_most}, not {value!r}")


def _pieces(data: Contents) -> Iterator[bytes | memoryview]:
    """The bytes of *data*, a piece at a time; InvalidValue if there are none to be had."""
    if isinstance(data, str):
        return iter((data.encode(),))
    if isinstance(data, (bytes, bytearray, memoryview)):
        return iter((memoryview(data).cast("B"),))
    if not hasattr(data, "read"):
        raise InvalidValue(f"contents must be bytes, text or a file, not {type(data).__name__}")
    return _read(data)


def _read(file: IO[bytes] | IO[str]) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece.encode() if isinstance(piece, str) else piece
