"""Between a command in a guest and who is attached to it: all that it says is heard here, too.

Nothing is lost and nothing piles up: while who is attached takes no more, the command waits, and the other way round.
"""

from __future__ import annotations

import enum
import select
import socket
import time
from contextlib import suppress
from typing import Protocol

from aegis_sdk.guest import requests
from aegis_sdk.guest.channel import Decoder, Kind, encode
from aegis_sdk.model import Exit

_CHUNK = 1 << 18
#: A line that is not finished is heard when nothing has followed for so many seconds: a prompt is seen.
_PAUSE = 0.2


class Hearer(Protocol):
    """Who hears what a command says."""

    @property
    def unfinished(self) -> bool:
        """Whether it wants to know of a pause."""

    def feed(self, source: str, data: bytes) -> None:
        """Hear a piece of a stream."""

    def flush(self) -> None:
        """Nothing has followed for a while."""


class HasDescriptor(Protocol):
    """What can be waited for."""

    def fileno(self) -> int:
        """What becomes readable."""


class Seen(enum.Enum):
    """Why a tee has stopped for a moment."""

    EXITED = "the command has ended"
    LOST = "the guest has ended the connection"
    HUNG_UP = "who was attached has gone"
    ASKED = "somebody has asked for the command's end"
    LATE = "the time is over"


class Tee:
    """Carries frames between *guest* and *attached*, if somebody is, and listens to *asked*, if it is told to."""

    def __init__(
        self,
        guest: socket.socket,
        attached: socket.socket | None,
        *,
        hearer: Hearer,
        asked: HasDescriptor | None = None,
    ) -> None:
        self._guest, self._attached, self._hearer, self._asked = guest, attached, hearer, asked
        self._decoder = Decoder()
        self._out = memoryview(b"")  # for who is attached
        self._in = memoryview(b"")  # for the guest
        self._takes_input = attached is not None
        self._last = b""  # the frame that says how the command ended, which who is attached gets when all is settled
        self.started = False
        self.exit: Exit | None = None

    def carry(self, *, deadline: float | None, listen: bool = True) -> Seen:
        """Carry until something is seen; ProtocolViolation if the guest speaks nonsense."""
        while deadline is None or time.monotonic() < deadline:
            ready = self._ready(deadline, listen=listen)
            attached = self._attached
            if attached and not self._carry_attached(attached, ready.get(attached.fileno(), 0)):
                return self._hang_up()
            if listen and self._asked and ready.get(self._asked.fileno()):
                return Seen.ASKED
            if seen := self._carry_guest(ready.get(self._guest.fileno(), 0)):
                return seen
        return Seen.LATE

    def settle(self) -> None:
        """Give who is attached the rest, however long that takes, and hang up."""
        if not self._attached:
            return
        self._out = memoryview(bytes(self._out) + self._last)
        with suppress(OSError), self._attached as attached:
            attached.setblocking(True)
            attached.sendall(self._out)

    def _ready(self, deadline: float | None, *, listen: bool) -> dict[int, int]:
        poll = select.poll()
        if listen and self._asked:
            poll.register(self._asked, select.POLLIN)
        poll.register(self._guest, (0 if self._out else select.POLLIN) | (select.POLLOUT if self._in else 0))
        if self._attached:
            wants_more = self._takes_input and not self._in
            poll.register(self._attached, (select.POLLIN if wants_more else 0) | (select.POLLOUT if self._out else 0))
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        times = [seconds for seconds in (left, _PAUSE if self._hearer.unfinished else None) if seconds is not None]
        ready = dict(poll.poll(min(times) * 1000 if times else None))
        if not ready:
            self._hearer.flush()
        return ready

    def _carry_attached(self, attached: socket.socket, events: int) -> bool:
        """Whether who is attached is still there."""
        try:
            if events & select.POLLOUT:
                self._out = self._out[attached.send(self._out, socket.MSG_DONTWAIT) :]
            if events & select.POLLIN:
                self._in = memoryview(attached.recv(_CHUNK, socket.MSG_DONTWAIT))
                return bool(self._in)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return not events & (select.POLLHUP | select.POLLERR)

    def _carry_guest(self, events: int) -> Seen | None:
        if events & select.POLLOUT:
            self._feed()
        # What a guest that has hung up has left is no more than a socket holds.
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return self._read()
        return None

    def _feed(self) -> None:
        try:
            self._in = self._in[self._guest.send(self._in, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return
        except OSError:  # the command takes no more input; who feeds it is to know
            self._takes_input, self._in = False, memoryview(b"")
            if self._attached:
                with suppress(OSError):
                    self._attached.shutdown(socket.SHUT_RD)

    def _read(self) -> Seen | None:
        try:
            data = self._guest.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if not data:
            return Seen.LOST
        self._decoder, frames = self._decoder.feed(memoryview(data))
        passed = b"".join(self._heard(kind, payload) for kind, payload in frames)
        if self._attached:
            self._out = memoryview(bytes(self._out) + passed if self._out else passed)
        return Seen.EXITED if self.exit else None

    def _heard(self, kind: Kind, payload: bytes) -> bytes:
        """What who is attached is to get of a frame."""
        if kind is not Kind.EVENT:
            self._hearer.feed(kind.name.lower(), payload)
            return encode(kind, payload)
        match requests.event(payload):
            case requests.Started():
                self.started = True
                return encode(kind, payload)
            case requests.NotStarted(code, message):
                self._hearer.feed("stderr", f"{message}\n".encode())
                self.exit = Exit(code=code)
            case Exit() as end:
                self.exit = end
        self._last = encode(kind, payload)
        return b""

    def _hang_up(self) -> Seen:
        if self._attached:
            self._attached.close()
        self._attached, self._out = None, memoryview(b"")
        return Seen.HUNG_UP
