"""Waiting on descriptors, and being woken: by Linux's epoll and eventfd, elsewhere by poll(2) and a socket pair."""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from contextlib import suppress
from typing import Protocol

READ, WRITE, HANG_UP = select.POLLIN, select.POLLOUT, select.POLLHUP  # epoll's are the same numbers
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL
_GLANCE = 0.25


class Readiness(Protocol):
    """What tells which descriptors are ready, as ``select.epoll`` does.

    That one has hung up is told always, also of one of which nothing else is asked.
    """

    def register(self, source: int, events: int, /) -> None:
        """Watch *source* for *events*."""

    def modify(self, source: int, events: int, /) -> None:
        """Watch *source*, which is watched, for other *events*."""

    def unregister(self, source: int, /) -> None:
        """Watch *source* no more."""

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        """Which are ready, and for what; nothing after *timeout* seconds, or before."""

    def close(self) -> None:
        """Give everything back."""


class Waker(Protocol):
    """Something to watch that another thread makes ready."""

    def fileno(self) -> int:
        """What to watch for READ."""

    def wake(self) -> None:
        """From any thread: make it ready."""

    def rest(self) -> None:
        """Make it ready no more."""

    def close(self) -> None:
        """Give everything back."""


def here() -> tuple[Readiness, Waker]:
    """The best that this system has."""
    if sys.platform == "linux":
        return select.epoll(), Event()
    return anywhere()


def anywhere() -> tuple[Readiness, Waker]:
    """What every system has."""
    return Polling(), Pair()


class Polling:
    """poll(2). A hang-up of which nothing else is asked is seen within a quarter of a second.

    macOS would not see it at all, and where READ is asked it says hang-up of a peer that has only finished writing. It
    tells the two apart when WRITE alone is asked (EV_EOF of EVFILT_WRITE), which cannot be waited for: there nearly
    always is room to write. So it is looked at now and then.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._idle: set[int] = set()
        self._next_glance = 0.0

    def register(self, source: int, events: int, /) -> None:
        if events:
            self._poll.register(source, events)
        else:
            self._idle.add(source)

    def modify(self, source: int, events: int, /) -> None:
        self.unregister(source)
        self.register(source, events)

    def unregister(self, source: int, /) -> None:
        if source in self._idle:
            self._idle.remove(source)
        else:
            self._poll.unregister(source)

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        if not self._idle:
            return self._poll.poll(timeout * 1000)
        ready = self._poll.poll(min(timeout, _GLANCE) * 1000)
        if time.monotonic() >= self._next_glance:
            ready += self._hung_up()
            self._next_glance = time.monotonic() + _GLANCE
        return ready

    def _hung_up(self) -> list[tuple[int, int]]:
        glance = select.poll()
        for source in self._idle:
            glance.register(source, WRITE)
        return [(source, HANG_UP) for source, events in glance.poll(0) if events & _GONE]

    def close(self) -> None:
        """There is nothing to give back."""


if sys.platform == "linux":

    class Event:
        """An eventfd."""

        def __init__(self) -> None:
            self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

        def fileno(self) -> int:
            return self._fd

        def wake(self) -> None:
            os.eventfd_write(self._fd, 1)

        def rest(self) -> None:
            os.eventfd_read(self._fd)

        def close(self) -> None:
            os.close(self._fd)


class Pair:
    """A pair of sockets."""

    def __init__(self) -> None:
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)
        self._there.setblocking(False)

    def fileno(self) -> int:
        return self._here.fileno()

    def wake(self) -> None:
        with suppress(BlockingIOError):  # so much lies there that it is ready already
            self._there.send(b"\0")

    def rest(self) -> None:
        self._here.recv(1 << 16)

    def close(self) -> None:
        self._here.close()
        self._there.close()
