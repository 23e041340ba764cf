"""One connection to the harness: lines of JSON and frames of bytes, both of them bounded."""

from __future__ import annotations

import enum
import json
import math
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress

import attrs

from aegis_sdk.errors import InvalidValue, ProtocolViolation

LINE_LIMIT = 1 << 20
FRAME_LIMIT = 1 << 20
HEADER = struct.Struct(">BI")
_CHUNK = 1 << 18
#: Seconds that a wait lasts at most before it is begun again: the kernel may hand a signal to any thread, and Python's
#: handler runs when the main thread next wakes.
LONGEST_WAIT = 0.5


class Kind(enum.IntEnum):
    """What a frame of a process's connection carries."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    EVENT = 3


def encode(kind: Kind, payload: bytes) -> bytes:
    """One frame."""
    return HEADER.pack(kind, len(payload)) + payload


@attrs.define
class Decoder:
    """Frames out of bytes that come in pieces of any size.

    A frame of output is handed on in the pieces in which it comes, so that nothing is copied to make it whole.
    """

    _head: bytearray = attrs.field(factory=bytearray)
    _kind: Kind = Kind.STDIN
    _left: int = 0
    _event: bytearray = attrs.field(factory=bytearray)

    def feed(self, data: memoryview) -> Iterator[tuple[Kind, bytes]]:
        """The frames, or parts of frames of output, that *data* brings; ProtocolViolation if it is none."""
        while data:
            if not self._left:
                data = self._header(data)
                continue
            part, data = data[: self._left], data[self._left :]
            self._left -= len(part)
            if self._kind is not Kind.EVENT:
                yield self._kind, bytes(part)
                continue
            self._event += part
            if not self._left:
                event, self._event = bytes(self._event), bytearray()
                yield Kind.EVENT, event

    def _header(self, data: memoryview) -> memoryview:
        missing = HEADER.size - len(self._head)
        self._head += data[:missing]
        if len(self._head) == HEADER.size:
            kind, self._left = HEADER.unpack(self._head)
            self._head.clear()
            if kind not in (Kind.STDOUT, Kind.STDERR, Kind.EVENT) or not 0 < self._left <= FRAME_LIMIT:
                raise ProtocolViolation(f"the guest sent a frame of kind {kind} and {self._left} bytes")
            self._kind = Kind(kind)
        return data[missing:]


@attrs.define
class Channel:
    """A connection to the harness; OSError means that the other end has gone."""

    _socket: socket.socket
    _decoder: Decoder = attrs.field(factory=Decoder)
    _buffer: memoryview = attrs.field(factory=lambda: memoryview(bytearray(_CHUNK)))
    _rest: bytes = b""

    def send_line(self, message: object, *, deadline: float) -> None:
        """Send *message* as one line of JSON; InvalidValue if that is too long, TimeoutError at the deadline."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        if len(line) > LINE_LIMIT:
            raise InvalidValue(
                f"arguments and environment take {len(line)} bytes on their way to the guest, of {LINE_LIMIT} at most",
                hint="give the command its data as input",
            )
        left = memoryview(line)
        while left:
            if not self.wait(select.POLLOUT, deadline=deadline):
                raise TimeoutError
            left = left[self.send_some(left) :]

    def read_line(self, *, deadline: float | None = None) -> object:
        """The next line, as the value that it says; EOFError at the end, TimeoutError at the deadline."""
        line = bytearray()
        while True:
            part, newline, self._rest = self._rest.partition(b"\n")
            line += part
            if len(line) > LINE_LIMIT:
                raise ProtocolViolation("the guest sent a line of more than 1 MiB")
            if newline:
                return _value(bytes(line))
            self._rest = bytes(self._receive(deadline))
            if not self._rest:
                raise EOFError

    def read_frames(self, *, deadline: float | None = None) -> list[tuple[Kind, bytes]]:
        """What comes next; at least one piece. EOFError at the end, TimeoutError at the deadline."""
        while True:
            data = self._receive(deadline)
            if not data:
                raise EOFError
            if frames := list(self._decoder.feed(data)):
                return frames

    def send_some(self, data: memoryview) -> int:
        """Send as much of *data* as goes without waiting; how many bytes that was."""
        try:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def send(self, data: bytes) -> None:
        """Send all of *data*, however long the other end takes."""
        self._socket.sendall(data)

    def wait(self, events: int, *, deadline: float | None) -> bool:
        """Wait for one of *events* (POLLIN, POLLOUT) or the end of the connection; false at the deadline."""
        poll = select.poll()
        poll.register(self._socket, events)
        while True:
            left = math.inf if deadline is None else max(0.0, deadline - time.monotonic())
            if poll.poll(min(left, LONGEST_WAIT) * 1000):
                return True
            if left < LONGEST_WAIT:
                return False

    def hang_up(self) -> None:
        """End the connection both ways; whoever waits on it sees its end. The socket is still to be closed."""
        with suppress(OSError):  # the other end may have been faster
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; nobody may be waiting on it."""
        self._socket.close()

    def _receive(self, deadline: float | None) -> memoryview:
        if deadline is not None and not self.wait(select.POLLIN, deadline=deadline):
            raise TimeoutError
        try:
            return self._buffer[: self._socket.recv_into(self._buffer)]
        except ConnectionResetError:
            return self._buffer[:0]


def _value(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"the guest sent a line that is not JSON: {line[:80]!r}") from error
