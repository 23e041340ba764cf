"""The connection of one running command: its output sorted by stream, its input fed as it is taken.

Nobody reads in the background: whoever waits for something reads for all, one at a time, until it has come.
"""

from __future__ import annotations

import math
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from aegis_sdk.errors import OutputNotRead
from aegis_sdk.guest import requests
from aegis_sdk.guest.channel import LONGEST_WAIT, Channel, Kind, encode
from aegis_sdk.model import Command, Exit

#: What one stream may hold unread while somebody waits for something else.
UNREAD_LIMIT = 64 << 20
_INPUT_FRAME = 1 << 16
_SIGNALS = signal.valid_signals()
_SMALL = 1 << 16


class Conversation:
    """What goes back and forth while a command runs; EOFError if the connection ends before the command does."""

    def __init__(self, channel: Channel, identity: str, command: Command, *, deadline: float) -> None:
        self._channel = channel
        # Both can be taken twice: a signal handler may close what its own thread is in the midst of.
        self._turn = threading.Condition(threading.RLock())
        self._sending = threading.RLock()
        self._reader: int | None = None  # the thread that reads, while one does
        self._lost = False
        self._hung_up = False
        self._input: Iterator[bytes] = iter(())
        self._piece = memoryview(b"")  # what is left of the input's current frame
        self._unread: dict[Kind, deque[bytearray]] = {Kind.STDOUT: deque(), Kind.STDERR: deque()}
        self._size = dict.fromkeys(self._unread, 0)
        #: Its process number in the guest, once it runs.
        self.pid: int | None = None
        #: How it ended, once it has.
        self.exit: Exit | None = None
        requests.start(channel, identity, command, deadline=deadline)

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
        with self._turn:
            if done():
                return True
            if self._lost:
                raise EOFError
            if bounded:
                self._check_bound()
            return False

    def _look(self, deadline: float | None) -> bool:
        """Read once, or wait until another thread has."""
        me = threading.get_ident()
        try:
            with self._turn:
                # A reader that is this very thread was interrupted, and does not read any more.
                if self._reader not in (None, me):
                    self._turn.wait(min(_left(deadline), LONGEST_WAIT))
                    return True
                self._reader = me
            self._read(deadline)
        finally:
            with self._turn:
                if self._reader == me:
                    self._reader = None
                    self._turn.notify_all()
                    if self._hung_up:
                        self._channel.close()
        return True

    def take(self, kind: Kind) -> bytes:
        """The next piece of a stream that has come; empty if there is none."""
        with self._turn:
            if not self._unread[kind]:
                return b""
            piece = self._unread[kind].popleft()
            self._size[kind] -= len(piece)
            return bytes(piece)

    def gather(self, kind: Kind) -> bytes:
        """All of a stream that has come."""
        with self._turn:
            whole = b"".join(self._unread[kind])
            self._unread[kind].clear()
            self._size[kind] = 0
            return whole

    def has(self, *kinds: Kind) -> bool:
        """Whether there is something to take of one of the streams."""
        return any(self._unread[kind] for kind in kinds)

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
        with self._turn:
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
        # A handler that raises between taking bytes and sorting them would lose some, and what comes next would look
        # as if the guest had broken the protocol. Waiting, above, is what can be interrupted.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._sort_some()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _sort_some(self) -> None:
        frames: list[tuple[Kind, bytes]] = []
        try:
            frames = self._channel.read_frames(deadline=time.monotonic())
        except TimeoutError:
            return
        except (EOFError, OSError):
            self._lost = True
        with self._turn:
            for kind, payload in frames:
                self._sort(kind, payload)

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

    def _sort(self, kind: Kind, payload: bytes) -> None:
        if kind is not Kind.EVENT:
            self._keep(kind, payload)
            return
        match requests.event(payload):
            case requests.Started(pid):
                self.pid = pid
            case requests.NotStarted(code, message):
                self._keep(Kind.STDERR, f"{message}\n".encode())
                self.exit = Exit(code=code)
            case Exit() as end:
                self.exit = end

    def _keep(self, kind: Kind, payload: bytes) -> None:
        pieces = self._unread[kind]
        # Small pieces are put together: each alone would take more room for itself than for its bytes.
        if pieces and len(pieces[-1]) < _SMALL:
            pieces[-1] += payload
        else:
            pieces.append(bytearray(payload))
        self._size[kind] += len(payload)

    def _check_bound(self) -> None:
        for kind, size in self._size.items():
            if size > UNREAD_LIMIT:
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
