"""The connection of one running command: who waits for its output reads it, and its input is fed as it is taken.

Nobody reads in the background: whoever waits for something reads for all, one at a time, until it has come.
"""

from __future__ import annotations

import math
import select
import threading
import time
from collections.abc import Callable, Iterator

from aegis_sdk.errors import OutputNotRead
from aegis_sdk.guest.channel import LONGEST_WAIT, Channel, Kind, encode
from aegis_sdk.guest.inbox import Inbox
from aegis_sdk.model import Exit

#: What one stream may hold unread while somebody waits for something else.
UNREAD_LIMIT = 64 << 20
_INPUT_FRAME = 1 << 16


class Conversation:
    """What goes back and forth while a command runs; EOFError if the connection ends before the command does."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        # Both can be taken twice: a signal handler may close what its own thread is in the midst of. The lock itself is
        # taken, not the condition, whose Python code a handler may leave with the lock taken and nobody told.
        self._lock, self._sending = threading.RLock(), threading.RLock()
        self._turn = threading.Condition(self._lock)
        self._reader: int | None = None  # the thread that reads, while one does
        self._lost = False
        self._hung_up = False
        self._input: Iterator[bytes] = iter(())
        self._piece = memoryview(b"")  # what is left of the input's current frame
        self._inbox = Inbox(channel)

    @property
    def pid(self) -> int | None:
        """Its process number in the guest, once it runs."""
        return self._inbox.state.pid

    @property
    def exit(self) -> Exit | None:
        """How it ended, once it has."""
        return self._inbox.state.exit

    @property
    def begun(self) -> bool:
        """Whether the command is known to run, or to have ended."""
        return self.pid is not None or self.exit is not None

    def until(self, done: Callable[[], bool], *, deadline: float | None = None, bounded: bool = True) -> bool:
        """Read until *done*; false at the deadline. OutputNotRead if *bounded* and a stream holds too much.

        What has come is looked at once, even if the deadline is over already.
        """
        looked = False
        while not (answer := self._settled(done, bounded=bounded)):
            if looked and _over(deadline):
                break
            looked = self._look(deadline)
        return answer

    def _settled(self, done: Callable[[], bool], *, bounded: bool) -> bool:
        with self._lock:
            self._inbox.sort()
            if done():
                return True
            if self._lost or self._inbox.state.over:
                raise EOFError
            if bounded:
                self._check_bound()
            return False

    def _look(self, deadline: float | None) -> bool:
        """Read once, or wait until another thread has."""
        me = threading.get_ident()
        try:
            with self._lock:
                if self._lost:  # since it was last looked at: the channel may be closed by now
                    return True
                # A reader that is this very thread was interrupted, and does not read any more.
                if self._reader not in (None, me):
                    self._turn.wait(min(_left(deadline), LONGEST_WAIT))
                    return True
                self._reader = me
            self._read(deadline)
        finally:
            with self._lock:
                if self._reader == me:
                    self._reader = None
                    self._turn.notify_all()
                    if self._hung_up:
                        self._channel.close()
        return True

    def take(self, kind: Kind) -> bytes:
        """The next piece of a stream that has come; empty if there is none."""
        with self._lock:
            return self._inbox.first(kind)

    def gather(self, kind: Kind) -> bytes:
        """All of a stream that has come."""
        with self._lock:
            return b"".join(iter(lambda: self._inbox.first(kind), b""))

    def has(self, *kinds: Kind) -> bool:
        """Whether there is something to take of one of the streams."""
        return any(self._inbox.state.unread(kind).size for kind in kinds)

    def feed(self, data: bytes) -> None:
        """Give the command all of *data*, and then the end of its input, while output is being read."""
        self._input = _frames(data, end=True)

    def write(self, data: bytes) -> None:
        """Send *data* to the command's input, however long it takes; OSError if it takes no more."""
        with self._sending:
            for frame in _frames(data, end=not data):
                self._channel.send(frame)

    def hang_up(self) -> None:
        """End the connection, and with it the command; may be called from anywhere, signal handlers included."""
        self._channel.hang_up()
        with self._lock:
            self._lost = self._hung_up = True
            # Another thread that reads sees the end now, and closes what it has been reading from.
            if self._reader is None:
                with self._sending:
                    self._channel.close()

    def _read(self, deadline: float | None) -> None:
        try:
            self._feed_some(deadline)
            if not self._channel.wait(select.POLLIN, deadline=deadline):
                return
        except TimeoutError:
            return
        except (EOFError, OSError):
            self._lost = True
            return
        self._inbox.take()

    def _feed_some(self, deadline: float | None) -> None:
        """Feed the input until there is output to be read; TimeoutError at the deadline."""
        while self._piece or self._next_piece():
            if not self._channel.wait(select.POLLIN | select.POLLOUT, deadline=deadline):
                raise TimeoutError
            try:
                sent = self._channel.send_some(self._piece)
            except OSError:  # the command has ended, or takes no more: that is its right
                self._input, self._piece = iter(()), memoryview(b"")
                return
            self._piece = self._piece[sent:]
            if self._channel.wait(select.POLLIN, deadline=time.monotonic()):
                return

    def _next_piece(self) -> bool:
        self._piece = memoryview(next(self._input, b""))
        return bool(self._piece)

    def _check_bound(self) -> None:
        for kind in (Kind.STDOUT, Kind.STDERR):
            if (size := self._inbox.state.unread(kind).size) > UNREAD_LIMIT:
                raise OutputNotRead(
                    f"{kind.name.lower()} holds {size >> 20} MiB that nobody has read",
                    hint="read both streams, with two threads or with output(), or send one of them to /dev/null",
                )


def _frames(data: bytes, *, end: bool) -> Iterator[bytes]:
    for at in range(0, len(data), _INPUT_FRAME):
        yield encode(Kind.STDIN, data[at : at + _INPUT_FRAME])
    if end:
        yield encode(Kind.STDIN, b"")


def _left(deadline: float | None) -> float:
    return math.inf if deadline is None else max(0.0, deadline - time.monotonic())


def _over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
