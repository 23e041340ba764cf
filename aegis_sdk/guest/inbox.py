"""What the connection of a command has brought, sorted by stream; whole at every moment.

A signal handler may raise between any two steps of this code. So bytes are taken by one call into C, which also keeps
them, and what they change is worked out beside what is there and takes its place by one assignment.
"""

from __future__ import annotations

import functools
import itertools
import threading
from operator import itemgetter
from typing import Any

import attrs

from aegis_sdk.guest import requests
from aegis_sdk.guest.channel import Channel, Decoder, Kind
from aegis_sdk.model import Exit

_SMALL = 1 << 12
_Chain = tuple[bytes, Any] | None  # a piece, and the chain of those after it


@attrs.frozen
class Unread:
    """Pieces of a stream, first in, first out. It never changes: adding and taking make another."""

    size: int = 0
    _next: _Chain = None
    _latest: _Chain = None  # the newest first

    def with_last(self, piece: bytes) -> Unread:
        """All of this, and *piece*."""
        size, before = self.size + len(piece), self._latest
        # Small pieces are put together: each alone would take more room for itself than for its bytes.
        if before and len(before[0]) < _SMALL:
            piece, before = before[0] + piece, before[1]
        return Unread(size, self._next, (piece, before))

    def without_first(self) -> tuple[bytes, Unread]:
        """The first piece, and all but that; the piece is empty if there is none."""
        chain = self._next or _reversed(self._latest)
        if not chain:
            return b"", self
        piece, rest = chain
        return piece, Unread(self.size - len(piece), rest, self._latest if self._next else None)


def _reversed(chain: _Chain) -> _Chain:
    turned: _Chain = None
    while chain:
        turned, chain = (chain[0], turned), chain[1]
    return turned


@attrs.frozen(kw_only=True)
class Sorted:
    """What the bytes up to some piece say."""

    #: The number of that piece.
    last: int = 0
    decoder: Decoder = attrs.field(factory=Decoder)
    stdout: Unread = attrs.field(factory=Unread)
    stderr: Unread = attrs.field(factory=Unread)
    #: The command's process number in the guest, once it runs.
    pid: int | None = None
    #: How it ended, once it has.
    exit: Exit | None = None
    #: Whether the connection is at its end.
    over: bool = False

    def unread(self, kind: Kind) -> Unread:
        """What nobody has taken yet of a stream."""
        return self.stdout if kind is Kind.STDOUT else self.stderr

    def keeping(self, kind: Kind, unread: Unread) -> Sorted:
        """The same, but for what is unread of a stream."""
        if kind is Kind.STDOUT:
            return attrs.evolve(self, stdout=unread)
        return attrs.evolve(self, stderr=unread)

    def after(self, number: int, data: bytes) -> Sorted:
        """What it is with one piece more; no bytes are the end. ProtocolViolation if they say nothing."""
        decoder, frames = self.decoder.feed(memoryview(data))
        now = attrs.evolve(self, last=number, decoder=decoder, over=self.over or not data)
        for kind, group in itertools.groupby(frames, key=itemgetter(0)):
            payloads = [payload for _, payload in group]
            if kind is Kind.EVENT:
                now = functools.reduce(_told, payloads, now)
            else:
                now = now.keeping(kind, now.unread(kind).with_last(b"".join(payloads)))
        return now


def _told(state: Sorted, event: bytes) -> Sorted:
    match requests.event(event):
        case requests.Started(pid):
            return attrs.evolve(state, pid=pid)
        case requests.NotStarted(code, message):
            said = state.keeping(Kind.STDERR, state.stderr.with_last(f"{message}\n".encode()))
            return attrs.evolve(said, exit=Exit(code=code))
        case Exit() as end:
            return attrs.evolve(state, exit=end)


@attrs.define
class Inbox:
    """Takes what comes, sorts it, and hands it out; one thread may take while another sorts."""

    _channel: Channel
    state: Sorted = attrs.field(factory=Sorted, init=False)
    _taken: dict[int, bytes] = attrs.field(factory=dict, init=False)
    _taking: threading.RLock = attrs.field(factory=threading.RLock, init=False)
    _numbers: itertools.count[int] = attrs.field(factory=lambda: itertools.count(1), init=False)

    def take(self) -> None:
        """Take what has come, without waiting; its end, if nothing will."""
        try:
            with self._taking:  # a piece's number is to be its place, should two threads be here
                self._channel.take(self._taken, self._numbers)
        except BlockingIOError:
            return
        except OSError:
            self._taken[next(self._numbers)] = b""

    def sort(self) -> None:
        """Sort what was taken; ProtocolViolation if the guest breaks the protocol."""
        while self._taken:
            number = min(self._taken)
            state, data = self.state, self._taken.get(number)
            if data is not None and number > state.last:
                self._replace(state, state.after(number, data))
            if number <= self.state.last:
                self._taken.pop(number, None)

    def first(self, kind: Kind) -> bytes:
        """The next piece of a stream; empty if none has come."""
        while True:
            state = self.state
            piece, rest = state.unread(kind).without_first()
            if self._replace(state, state.keeping(kind, rest)):
                return piece

    def _replace(self, before: Sorted, after: Sorted) -> bool:
        # No handler runs between a comparison and an assignment; one that ran before, and did not raise, was first.
        if self.state is before:
            self.state = after
            return True
        return False
