"""A connected socket in an event loop: what has come waits here, what is to go is sent when it can be.

Beside asyncio's own transports: when a send fails, what the other side said before it hung up can still be read (an
answer that refuses an upload comes just so), and there is no buffer between the socket and who reads.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

_PIECE = 1 << 16
#: Nobody is read further while so much of what they sent waits here.
_HELD = 1 << 16
#: Who writes should wait while so much has not gone.
_BACKLOG = 1 << 17


class Gone(Exception):  # as those in errors.py
    """The other side has closed the connection, or it broke."""


class Silent(Exception):  # as those in errors.py
    """The other side has let the time pass that it had."""


class Stream:
    """Both directions of one connection, each for one task at a time; all of it in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._loop, self._socket, self._descriptor = loop, connected, connected.fileno()
        self.waiting = b""  # what has come and nobody has taken
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._read_by = self._written_by = math.inf
        self._pending: deque[memoryview] = deque()
        self._backlog = 0
        self._finishing = False
        self._broken = False  # it can be written to no more
        self._reads = False
        self.closed = False
        self.ended = False  # nothing more will come
        self.lost = False  # ... because it broke
        self.on_lost: Callable[[], object] | None = None  # called when it breaks
        #: When the other side last took something, or said that it sends no more.
        self.last_heard = 0.0
        self._resume()

    def take(self) -> bytes:
        """What has come and was not taken yet; the caller's from now on."""
        taken, self.waiting = self.waiting, b""
        if not self._reads:
            self._resume()
        return taken

    def give_back(self, data: bytes) -> None:
        """*data* was taken, and is somebody else's to take."""
        self.waiting = data + self.waiting

    def cut(self, mark: bytes, start: int) -> bytes | None:
        """Take what there is up to and with *mark*, which is looked for from *start*; None if it is not there yet."""
        end = self.waiting.find(mark, start)
        if end < 0:
            return None
        end += len(mark)
        if end == len(self.waiting):
            return self.take()
        taken, self.waiting = self.waiting[:end], self.waiting[end:]
        return taken

    async def more(self, *, by: float = math.inf) -> bool:
        """Wait for more than there is; false if nothing more comes. Silent if nothing has, *by* that monotonic time."""
        if self.ended:
            return False
        if monotonic() >= by:  # what comes now and then must not outrun the looks at the clock
            raise Silent
        if not self._reads:
            self._listen()
        self._read_by = by
        self._reader = asyncio.Future(loop=self._loop)
        try:
            await self._reader
        finally:
            self._reader, self._read_by = None, math.inf
        return not self.ended or bool(self.waiting)

    def write(self, data: bytes) -> None:
        """Send *data*, now or when there is room; nothing happens if the other side has gone."""
        if self._broken or not data:
            return
        sent = 0
        if not self._pending:
            sent = self._send(data)
        if sent < len(data) and not self._broken:
            self._pending.append(memoryview(data)[sent:])
            self._backlog += len(data) - sent
            if len(self._pending) == 1:
                self._loop.add_writer(self._descriptor, self._writable)

    @property
    def congested(self) -> bool:
        """Whether who writes should ``drain``, which does nothing else."""
        return self._backlog >= _BACKLOG or self._broken

    async def drain(self, *, within: float = math.inf, below: int = _BACKLOG) -> None:
        """Wait until less than that is still to be sent; Gone if nothing can be, Silent if it takes too long."""
        while self._backlog >= below and not self._broken:
            self._written_by = monotonic() + within
            self._writer = asyncio.Future(loop=self._loop)
            try:
                await self._writer
            finally:
                self._writer, self._written_by = None, math.inf
        if self._broken:
            raise Gone("the other side takes no more")

    def finish(self) -> None:
        """Say that nothing more is sent, after all that was written."""
        self._finishing = True
        if not self._pending:
            self._shut()

    def expire(self, now: float) -> None:
        """End a wait whose time has come; to be called now and then."""
        for waiter, due in ((self._reader, self._read_by), (self._writer, self._written_by)):
            if now >= due and waiter and not waiter.done():
                waiter.set_exception(Silent())

    def close(self) -> None:
        """End the connection now; what was not sent yet is not."""
        if self.closed:
            return
        self.closed = self.ended = self._broken = True
        self._pause()
        self._loop.remove_writer(self._descriptor)
        self._pending.clear()
        self._wake(self._reader)
        self._wake(self._writer)
        with suppress(OSError):  # a forked child may hold a copy, and closing ours alone would end nothing
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.lost, data = True, b""
        if data:
            self.waiting = self.waiting + data if self.waiting else data
            if len(self.waiting) >= _HELD:
                self._pause()
        else:
            self.ended, self.last_heard = True, monotonic()
            self._pause()
        self._wake(self._reader)
        if self.lost:
            self._tell()

    def _writable(self) -> None:
        while self._pending:
            piece = self._pending[0]
            sent = self._send(piece)
            self._backlog -= sent
            if sent < len(piece):
                self._pending[0] = piece[sent:]
                break
            self._pending.popleft()
        if self._broken:
            self._pending.clear()
        if not self._pending:
            self._loop.remove_writer(self._descriptor)
            if self._finishing:
                self._shut()
        self._wake(self._writer)  # also for a little: it is a sign of life

    def _send(self, data: bytes | memoryview) -> int:
        try:
            sent = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self._broken = True
            # What came before can be read still; only if nothing more will come has the other side gone altogether.
            if self.ended:
                self._tell()
            return 0
        self.last_heard = monotonic()
        return sent

    def _tell(self) -> None:
        if self.on_lost:
            self.on_lost()

    def _shut(self) -> None:
        with suppress(OSError):  # the other side may have gone already
            self._socket.shutdown(socket.SHUT_WR)

    def _pause(self) -> None:
        if self._reads:
            self._reads = False
            self._loop.remove_reader(self._descriptor)

    def _resume(self) -> None:
        if not self.ended and len(self.waiting) < _HELD:
            self._listen()

    def _listen(self) -> None:
        self._reads = True
        self._loop.add_reader(self._descriptor, self._readable)

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter and not waiter.done():
            waiter.set_result(None)
