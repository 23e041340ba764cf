"""The host's end of a yamux session, without any I/O.

Bytes from the guest go in by ``feed`` and come out as events; bytes for the guest pile up in ``outgoing``.
The format is https://github.com/hashicorp/yamux/blob/master/spec.md. The host is the client; a guest opens streams only
where they are taken, and one that breaks the rules gets ProtocolViolation.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator

import attrs

from aegis_sdk.errors import ProtocolViolation

HEADER = struct.Struct(">BBHII")
DATA, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
INITIAL_WINDOW = 256 << 10
WINDOW = 1 << 20
_MOST_ROOM = 1 << 32
# What a guest may have the host answer before it reads the answers.
_OUTGOING_LIMIT = 4 << 20


@attrs.frozen
class Opened:
    """The guest has opened a stream, whose window stays small: there may be many of them."""

    stream: int


@attrs.frozen
class Data:
    """Bytes of a stream; valid until the next ``feed``."""

    stream: int
    payload: memoryview


@attrs.frozen
class Writable:
    """A stream's window has opened."""

    stream: int


@attrs.frozen
class Finished:
    """The guest sends no more on a stream."""

    stream: int


@attrs.frozen
class Reset:
    """A stream is gone, both ways."""

    stream: int


@attrs.frozen
class Pong:
    """A ping was answered."""


Event = Opened | Data | Writable | Finished | Reset | Pong


@attrs.define
class _Stream:
    send_window: int = INITIAL_WINDOW
    receive_window: int = WINDOW
    finished_here: bool = False
    finished_there: bool = False


def _account(stream: _Stream, number: int, length: int) -> None:
    stream.receive_window -= length
    if stream.receive_window < 0 or stream.finished_there:
        raise ProtocolViolation(f"the guest sent {length} bytes too many on stream {number}")


@attrs.define
class Session:
    """All streams to one guest."""

    takes: bool = False  # streams that the guest opens
    outgoing: deque[bytes] = attrs.field(factory=deque)
    backlog: int = 0
    _opened: int = 0  # the last that it has
    _streams: dict[int, _Stream] = attrs.field(factory=dict)
    _next: int = 1
    _head: bytearray = attrs.field(factory=bytearray)
    _receiving: int = 0  # the stream whose data is arriving ...
    _left: int = 0  # ... how much of it is still to come ...
    _closing: int = 0  # ... and the flag that takes effect behind it
    _pings: int = 0

    def open(self) -> int:
        """Open a stream, with a window of 1 MiB towards the host; its number."""
        number, self._next = self._next, self._next + 2
        self._streams[number] = _Stream()
        self._send(WINDOW_UPDATE, SYN, number, WINDOW - INITIAL_WINDOW)
        return number

    def room(self, number: int) -> int:
        """How many bytes the guest takes on the stream now."""
        return self._streams[number].send_window

    def send(self, number: int, payload: bytes) -> None:
        """Send *payload*, no more than there is room for."""
        self._streams[number].send_window -= len(payload)
        self._send(DATA, 0, number, len(payload), payload)

    def finish(self, number: int) -> None:
        """Send no more on the stream."""
        self._streams[number].finished_here = True
        self._send(WINDOW_UPDATE, FIN, number, 0)
        self._forget_if_over(number)

    def reset(self, number: int) -> None:
        """End the stream both ways; fine if it is gone."""
        if self._streams.pop(number, None):
            self._send(WINDOW_UPDATE, RST, number, 0)

    def consumed(self, number: int, amount: int) -> None:
        """Let the guest send *amount* more; fine if the stream is gone."""
        if stream := self._streams.get(number):
            stream.receive_window += amount
            self._send(WINDOW_UPDATE, 0, number, amount)

    def ping(self) -> None:
        """Ask the guest for a sign of life."""
        self._pings += 1
        self._send(PING, SYN, 0, self._pings & 0xFFFFFFFF)

    def sent(self, amount: int) -> None:
        """Take *amount* bytes off the front of ``outgoing``: they have left."""
        self.backlog -= amount
        while amount and amount >= len(self.outgoing[0]):
            amount -= len(self.outgoing.popleft())
        if amount:
            self.outgoing[0] = self.outgoing[0][amount:]

    def feed(self, data: memoryview) -> Iterator[Event]:
        """What *data*, the next bytes from the guest, means."""
        while data:
            if self._left:
                part, data = data[: self._left], data[self._left :]
                self._left -= len(part)
                if self._receiving in self._streams:
                    yield Data(self._receiving, part)
                # Who took the data may have reset the stream.
                if self._closing and not self._left and self._receiving in self._streams:
                    yield self._over(self._receiving, self._closing)
                continue
            missing = HEADER.size - len(self._head)
            self._head += data[:missing]
            data = data[missing:]
            if len(self._head) == HEADER.size:
                version, kind, flags, number, length = HEADER.unpack(self._head)
                self._head.clear()
                if version or kind > GO_AWAY:
                    raise ProtocolViolation(f"the guest sent a yamux frame of version {version}, type {kind}")
                yield from self._frame(kind, flags, number, length)

    def _frame(self, kind: int, flags: int, number: int, length: int) -> Iterator[Event]:
        if kind == PING:
            if flags & ACK:
                yield Pong()
            else:
                self._send(PING, ACK, 0, length)
        elif kind == GO_AWAY:
            raise ProtocolViolation(f"the guest's harness gave the session up (code {length})")
        else:
            yield from self._stream_frame(kind, flags, number, length)

    def _stream_frame(self, kind: int, flags: int, number: int, length: int) -> Iterator[Event]:
        if not number % 2 and flags & SYN:
            yield self._open_theirs(number)
        if number >= self._next if number % 2 else not 0 < number <= self._opened:
            raise ProtocolViolation(f"the guest spoke on stream {number}, which was never opened")
        stream = self._streams.get(number)
        closing = flags & (FIN | RST)
        if kind == DATA:
            self._receiving, self._left, self._closing = number, length, closing
        if stream is None:  # a stream that was over here before the guest knew
            return
        if kind == DATA:
            _account(stream, number, length)
        elif length:
            stream.send_window = min(stream.send_window + length, _MOST_ROOM)
            yield Writable(number)
        if closing and not self._left:
            yield self._over(number, closing)

    def _open_theirs(self, number: int) -> Opened:
        if not self.takes:
            raise ProtocolViolation(f"the guest opened stream {number}: it may open none")
        if number <= self._opened:
            raise ProtocolViolation(f"the guest opened stream {number} after stream {self._opened}")
        self._opened = number
        self._streams[number] = _Stream(receive_window=INITIAL_WINDOW)
        self._send(WINDOW_UPDATE, ACK, number, 0)
        return Opened(number)

    def _over(self, number: int, closing: int) -> Event:
        if closing & RST:
            del self._streams[number]
            return Reset(number)
        self._streams[number].finished_there = True
        self._forget_if_over(number)
        return Finished(number)

    def _forget_if_over(self, number: int) -> None:
        stream = self._streams[number]
        if stream.finished_here and stream.finished_there:
            del self._streams[number]

    def _send(self, kind: int, flags: int, number: int, length: int, payload: bytes = b"") -> None:
        self.outgoing.append(HEADER.pack(0, kind, flags, number, length))
        if payload:
            self.outgoing.append(payload)
        self.backlog += HEADER.size + len(payload)
        if self.backlog > _OUTGOING_LIMIT:
            raise ProtocolViolation("the guest makes the host answer and does not read the answers")
