"""One connection to the harness: lines of JSON and frames of bytes, both of them bounded."""

from __future__ import annotations

import enum
import json
import math
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import attrs

from aegis_sdk.errors import InvalidValue, ProtocolViolation

LINE_LIMIT = 1 << 20
FRAME_LIMIT = 1 << 20
HEADER = struct.Struct(">BI")
_CHUNK = 1 << 18
#: Seconds that a wait lasts at most before it is begun again: the kernel may hand a signal to any thread, and Python's
#: handler runs when the main thread next wakes.
LONGEST_WAIT = 0.5
# macOS heeds MSG_DONTWAIT only where it receives. There a send does not wait if it is of no more than that for which
# POLLOUT says that there is room.
_CAN_SEND_SOME = sys.platform != "darwin"


class Kind(enum.IntEnum):
    """What a frame of a process's connection carries."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    EVENT = 3


def encode(kind: Kind, payload: bytes) -> bytes:
    """One frame."""
    return HEADER.pack(kind, len(payload)) + payload


_Parts = tuple[Any, bytes] | None  # the parts before it, and a part: to add one costs the same however many there are


@attrs.frozen
class Decoder:
    """Frames out of bytes that come in pieces of any size: where in a frame the last piece ended.

    A frame of output is handed on in the pieces in which it comes, so that nothing is copied to make it whole.
    """

    _head: bytes = b""
    _kind: Kind = Kind.STDIN
    _left: int = 0
    _event: _Parts = None

    def feed(self, data: memoryview) -> tuple[Decoder, list[tuple[Kind, bytes]]]:
        """Where *data* ends, and the frames, or parts of frames of output, that it brings.

        ProtocolViolation if it brings none.
        """
        frames: list[tuple[Kind, bytes]] = []
        head, kind, left, event = self._head, self._kind, self._left, self._event
        while data:
            if not left:
                missing = HEADER.size - len(head)
                head, data = head + data[:missing], data[missing:]
                if len(head) == HEADER.size:
                    kind, left = _opened(head)
                    head = b""
                continue
            part, data = bytes(data[:left]), data[left:]
            left -= len(part)
            if kind is not Kind.EVENT:
                frames.append((kind, part))
                continue
            event = (event, part)
            if not left:
                frames.append((kind, _whole(event)))
                event = None
        return Decoder(head, kind, left, event), frames


def _whole(parts: _Parts) -> bytes:
    turned = []
    while parts:
        parts, part = parts
        turned.append(part)
    return b"".join(reversed(turned))


def _opened(head: bytes) -> tuple[Kind, int]:
    kind, length = HEADER.unpack(head)
    if kind not in (Kind.STDOUT, Kind.STDERR, Kind.EVENT) or not 0 < length <= FRAME_LIMIT:
        raise ProtocolViolation(f"the guest sent a frame of kind {kind} and {length} bytes")
    return Kind(kind), length


@attrs.define
class Channel:
    """A connection to the harness; OSError means that the other end has gone."""

    _socket: socket.socket
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
            self._rest = self._receive(deadline)
            if not self._rest:
                raise EOFError

    def take(self, into: dict[int, bytes], numbers: Iterator[int]) -> None:
        """Put what has come *into* a dictionary, under the next number; no bytes are the end.

        BlockingIOError if nothing has, OSError if the other end has gone.
        """
        # One call, all of it in C: no signal handler can come between taking the bytes and keeping them.
        into.update(zip(numbers, map(self._socket.recv, (_CHUNK,), (socket.MSG_DONTWAIT,)), strict=False))

    def receive_into(self, room: memoryview, *, deadline: float | None) -> int:
        """Put what comes next into *room*; how many bytes that was, 0 at the end. TimeoutError at the deadline."""
        if not self.wait(select.POLLIN, deadline=deadline):
            raise TimeoutError
        try:
            return self._socket.recv_into(room)
        except ConnectionResetError:
            return 0

    def send_some(self, data: memoryview) -> int:
        """Send as much of *data* as goes without waiting; how many bytes that was."""
        if not _CAN_SEND_SOME:
            if not self.wait(select.POLLOUT, deadline=time.monotonic()):
                return 0
            data = data[: self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDLOWAT)]
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

    def _receive(self, deadline: float | None) -> bytes:
        if deadline is not None and not self.wait(select.POLLIN, deadline=deadline):
            raise TimeoutError
        try:
            return self._socket.recv(_CHUNK)
        except ConnectionResetError:
            return b""


def _value(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"the guest sent a line that is not JSON: {line[:80]!r}") from error
