"""An open file of a guest, as Python's own kind of file."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from typing import Any

from aegis_sdk.errors import FileFailed, InvalidValue
from aegis_sdk.guest.files import Entry, FileCall, Kind, parse_entry

_LONGEST = 1 << 20
_LARGEST = 1 << 63
_LONGEST_WRITE = (1 << 18) - 64  # what one batch takes
#: The flags of each mode but ``+``, ``b`` and ``t``.
_MODES: dict[str, tuple[str, ...]] = {
    "r": ("reading",),
    "w": ("writing", "create", "truncate"),
    "a": ("writing", "create", "append"),
    "x": ("writing", "create", "exclusive"),
}


def flags(mode: str) -> dict[str, bool]:
    """What the harness is asked for when a file is opened in *mode*; InvalidValue if there is no such mode."""
    first, rest = mode[:1], sorted(mode[1:])
    if first not in _MODES or rest not in ([], ["+"], ["b"], ["t"], ["+", "b"], ["+", "t"]):
        raise InvalidValue(f"there is no mode {mode!r}", hint="for example 'r', 'wb', 'a', 'x' or 'r+'")
    wanted = {*_MODES[first], *(("reading", "writing") if "+" in mode else ())}
    return dict.fromkeys(sorted(wanted), True)


def _ignore(_: memoryview) -> None:
    """Nothing was asked for."""


class GuestFile(io.RawIOBase):
    """An open file: each read and write is one question and its answer. One that was interrupted stays so."""

    def __init__(self, call: FileCall, mode: str, name: str) -> None:
        super().__init__()
        self.name, self.mode = name, mode
        self._call, self._flags = call, flags(mode)
        self._asking = threading.RLock()
        self._broken: BaseException | None = None  # what came between a question and its answer
        size = self._answer(_ignore).size
        self._at = size if "append" in self._flags else 0

    def readable(self) -> bool:
        return "reading" in self._flags

    def writable(self) -> bool:
        return "writing" in self._flags

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # Any: whatever has a buffer
        self._require(self.readable(), "reading")
        room, got = memoryview(buffer).cast("B")[:_LONGEST], 0

        def take(part: memoryview) -> None:
            nonlocal got
            if got + len(part) > len(room):
                self._call.violated("the guest sent more of a file than it was asked for")
            room[got : got + len(part)] = part
            got += len(part)

        self._ask(Kind.READ, self._at.to_bytes(8, "big") + len(room).to_bytes(4, "big"), take)
        self._at += got
        return got

    def write(self, data: Any) -> int:  # Any: whatever has a buffer
        self._require(self.writable(), "writing")
        piece = bytes(memoryview(data).cast("B")[:_LONGEST_WRITE])
        size = self._ask(Kind.WRITE, self._at.to_bytes(8, "big") + piece).size
        self._at = size if "append" in self._flags else self._at + len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence)
        if start is None:
            start = self._ask(Kind.READ, bytes(12)).size  # to read nothing also tells the size
        if whence > os.SEEK_END or not 0 <= start + offset < _LARGEST:
            raise InvalidValue(f"cannot seek to {offset} from {whence}")
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def truncate(self, size: int | None = None) -> int:
        self._require(self.writable(), "writing")
        size = self._at if size is None else size
        if not 0 <= size < _LARGEST:
            raise InvalidValue(f"a file cannot have {size} bytes")
        self._ask(Kind.RESIZE, size.to_bytes(8, "big"))
        return size

    def close(self) -> None:
        """Close it; what the guest's file system tells late of what was written is raised here."""
        if self.closed:
            return
        super().close()
        try:
            if self.writable() and not self._broken:
                self._call.send(Kind.END)
                self._call.flush()
                self._call.finish()
        finally:
            self._call.close()

    def _require(self, fit: bool, what: str) -> None:  # noqa: FBT001
        if self.closed:
            raise ValueError("I/O operation on a closed file")
        if not fit:
            raise io.UnsupportedOperation(f"this file was not opened for {what}")

    def _ask(self, kind: Kind, payload: bytes, take: Callable[[memoryview], None] = _ignore) -> Entry:
        with self._asking:
            if self._broken:
                raise self._broken
            try:
                self._call.send(kind, payload)
                self._call.flush()
                return self._answer(take)
            except FileFailed:
                raise
            except BaseException as error:
                self._broken = error
                raise

    def _answer(self, take: Callable[[memoryview], None]) -> Entry:
        while True:
            kind, payload = self._call.next(Kind.DATA, Kind.ENTRY)
            if kind is Kind.ENTRY:
                return self._call.parsed(parse_entry, payload)
            if kind is Kind.END:
                self._call.violated("the guest closed a file by itself")
            take(payload)
