"""Bodies as they come over a connection, and as they are sent on: pure code, fed with bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from aegis_sdk.routing.framing import Framing
from aegis_sdk.routing.heads import NO_FIELDS, Fields, trailer_fields

# Extensions are dropped; a bound on their length keeps them from costing more than what they extend.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t -~\x80-\xff]*)?")
_LONGEST_SIZE_LINE = 256
_LONGEST_TRAILERS = 16 << 10


class BrokenBody(Exception):  # as those in errors.py
    """The bytes are not what the framing says; the message says why."""


class Body(Protocol):
    """What is left of a body."""

    done: bool
    #: What came after the body, once that is done.
    rest: bytes
    #: The fields that came after chunks.
    trailers: Fields

    def feed(self, data: bytes) -> bytes:
        """What *data* has of the contents; BrokenBody if the framing is broken."""

    def end(self) -> None:
        """Take notice that no more comes; BrokenBody if there had to be more."""


class _Sized:
    def __init__(self, length: int) -> None:
        self._left = length
        self.done = not length
        self.rest = b""
        self.trailers = NO_FIELDS

    def feed(self, data: bytes) -> bytes:
        if len(data) < self._left:
            self._left -= len(data)
            return data
        self.done = True
        contents, self.rest = data[: self._left], data[self._left :]
        self._left = 0
        return contents

    def end(self) -> None:
        if not self.done:
            raise BrokenBody(f"the body ended {self._left} bytes early")


class _UntilClose:
    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.trailers = NO_FIELDS

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> None:
        self.done = True


class _Chunked:
    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self.trailers = NO_FIELDS
        self._left = 0  # of the chunk at hand
        self._held = b""  # the beginning of what is not whole yet
        self._next: Callable[[bytes], bytes | None] = self._size

    def feed(self, data: bytes) -> bytes:
        self._contents: list[bytes] = []
        left: bytes | None = self._held + data if self._held else data
        self._held = b""
        while left and not self.done:
            step, before = self._next, left
            left = step(left)
            if left is None:
                self._held = before
        if self.done:
            self.rest = left or b""
        return b"".join(self._contents)

    def end(self) -> None:
        if not self.done:
            raise BrokenBody("the body ended before its last chunk")

    def _size(self, data: bytes) -> bytes | None:
        line, end, rest = data.partition(b"\r\n")
        if not end:
            if len(data) > _LONGEST_SIZE_LINE or b"\n" in data:
                raise BrokenBody(f"{data[:40]!r} does not begin with a chunk's size")
            return None
        match = _SIZE_LINE.fullmatch(line) if len(line) <= _LONGEST_SIZE_LINE else None
        if not match:
            raise BrokenBody(f"{line[:40]!r} is no size of a chunk")
        self._left = int(match[1], 16)
        self._next = self._data if self._left else self._trailers
        return rest

    def _data(self, data: bytes) -> bytes:
        self._contents.append(data[: self._left])
        rest = data[self._left :]
        self._left -= len(data) - len(rest)
        if not self._left:
            self._next = self._end_of_data
        return rest

    def _end_of_data(self, data: bytes) -> bytes | None:
        if not b"\r\n".startswith(data[:2]):
            raise BrokenBody("a chunk is longer than its size")
        if len(data) < 2:
            return None
        self._next = self._size
        return data[2:]

    def _trailers(self, data: bytes) -> bytes | None:
        if data.startswith(b"\r\n"):
            self.done = True
            return data[2:]
        lines, end, rest = data.partition(b"\r\n\r\n")
        if not end:
            if len(data) > _LONGEST_TRAILERS:
                raise BrokenBody("the fields after the body are too long")
            return None
        fields = trailer_fields(lines + b"\r\n\r\n")
        if fields is None:
            raise BrokenBody("the fields after the body are broken")
        self.trailers, self.done = fields, True
        return rest


def reading(framing: Framing) -> Body:
    """A body of that framing of which nothing has come yet."""
    if framing.length is not None:
        return _Sized(framing.length)
    return _Chunked() if framing.chunked else _UntilClose()


def chunk(contents: bytes) -> bytes:
    """*contents* as a chunk; nothing is none, because an empty chunk would be the last."""
    return b"%x\r\n%b\r\n" % (len(contents), contents) if contents else b""


def last_chunk(trailers: list[str]) -> bytes:
    """The end of a chunked body, with these lines."""
    return f"0\r\n{''.join(trailers)}\r\n".encode("latin-1")
