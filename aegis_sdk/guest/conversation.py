"""The connection of one running command: its output sorted by stream, its input fed as it is taken.

Nobody reads in the background: whoever waits for something reads for all, one at a time, until it has come.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from aegis_sdk.errors import OutputNotRead
from aegis_sdk.guest import requests
from aegis_sdk.guest.channel import Channel, Kind, encode
from aegis_sdk.model import Command, Exit

#: What one stream may hold unread while somebody waits for something else.
UNREAD_LIMIT = 64 << 20
_INPUT_FRAME = 1 << 16


class Conversation:
    """What goes back and forth while a command runs; EOFError if the connection ends before the command does."""

    def __init__(self, channel: Channel, identity: str, command: Command) -> None:
        self._channel = channel
        self._turn = threading.Condition()
        self._someone_reads = False
        self._sending = threading.Lock()
        self._input: Iterator[bytes] = iter(())
        self._piece = memoryview(b"")  # what is left of the input's current frame
        self._unread: dict[Kind, deque[bytes]] = {Kind.STDOUT: deque(), Kind.STDERR: deque()}
        self._size = dict.fromkeys(self._unread, 0)
        self._lost = False
        #: Its process number in the guest, once it runs.
        self.pid: int | None = None
        #: How it ended, once it has.
        self.exit: Exit | None = None
        requests.start(channel, identity, command)

    @property
    def begun(self) -> bool:
        """Whether the command is known to run, or to have ended."""
        return self.pid is not None or self.exit is not None

    def until(self, done: Callable[[], bool], *, deadline: float | None = None, bounded: bool = True) -> bool:
        """Read until *done*; false at the deadline. OutputNotRead if *bounded* and a stream holds too much."""
        while True:
            with self._turn:
                if done():
                    return True
                if self._lost:
                    raise EOFError
                if bounded:
                    self._check_bound()
                if self._someone_reads:
                    if not self._turn.wait(_left(deadline)) and _over(deadline):
                        return False
                    continue
                self._someone_reads = True
            if not self._read(deadline):
                return False

    def take(self, kind: Kind) -> bytes:
        """The next piece of a stream that has come; empty if there is none."""
        with self._turn:
            if not self._unread[kind]:
                return b""
            piece = self._unread[kind].popleft()
            self._size[kind] -= len(piece)
            return piece

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
        """End the connection, and with it the command."""
        self._channel.hang_up()
        with self._turn:
            self._turn.wait_for(lambda: not self._someone_reads)
            self._lost = True
        with self._sending:
            self._channel.close()

    def _read(self, deadline: float | None) -> bool:
        frames: list[tuple[Kind, bytes]] = []
        lost = False
        try:
            self._feed_some(deadline)
            frames = self._channel.read_frames(deadline=deadline)
        except TimeoutError:
            return False
        except (EOFError, OSError):
            lost = True
        finally:
            with self._turn:
                self._lost = self._lost or lost
                self._someone_reads = False
                self._turn.notify_all()
                for kind, payload in frames:
                    self._sort(kind, payload)
        return True

    def _feed_some(self, deadline: float | None) -> None:
        """Feed the input until there is output to be read; TimeoutError at the deadline."""
        while self._piece or self._next_piece():
            if not self._channel.wait(writable=True, deadline=deadline):
                raise TimeoutError
            try:
                sent = self._channel.send_some(self._piece)
            except OSError:  # the command has ended, or takes no more: that is its right
                self._input, self._piece = iter(()), memoryview(b"")
                return
            self._piece = self._piece[sent:]
            if self._channel.wait(writable=False, deadline=time.monotonic()):
                return

    def _next_piece(self) -> bool:
        self._piece = memoryview(next(self._input, b""))
        return bool(self._piece)

    def _sort(self, kind: Kind, payload: bytes) -> None:
        if kind is not Kind.EVENT:
            self._unread[kind].append(payload)
            self._size[kind] += len(payload)
            return
        match requests.event(payload):
            case requests.Started(pid):
                self.pid = pid
            case requests.NotStarted(code, message):
                self._sort(Kind.STDERR, f"{message}\n".encode())
                self.exit = Exit(code=code)
            case Exit() as end:
                self.exit = end

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


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _over(deadline: float | None) -> bool:
    return deadline is not None and time.monotonic() >= deadline
