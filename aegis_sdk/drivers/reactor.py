"""One thread that waits on everything a machine's process has open, and calls back."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

# epoll itself, not selectors: only it tells of a hang-up where nothing else is waited for.
READ, WRITE, HANG_UP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP
Callback = Callable[[int], None]  # told which of READ, WRITE and HANG_UP it is


class Reactor:
    """Callbacks on readiness, all in the one thread that calls ``run``."""

    def __init__(self, *, tick: float, on_tick: Callable[[], None]) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[int, Callback]] = {}
        self._asked: deque[Callable[[], None]] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.watch(self._wake_fd, READ, self._woken)
        self._tick, self._on_tick = tick, on_tick
        self._running = True
        # A signal handler may ask while its own thread is asking.
        self._lock = threading.RLock()

    def watch(self, source: int, events: int, callback: Callback) -> None:
        """Call *callback* when the descriptor *source* is ready for *events*, and, always, when it hangs up."""
        known = self._watched.get(source)
        if known is None:
            self._epoll.register(source, events)
        elif events != known[0]:
            self._epoll.modify(source, events)
        self._watched[source] = (events, callback)

    def forget(self, source: int) -> None:
        """Watch *source* no more; fine if it is not watched."""
        if self._watched.pop(source, None):
            self._epoll.unregister(source)

    def ask(self, callback: Callable[[], None]) -> bool:
        """From any thread: have *callback* called in the reactor's; false if it has ended."""
        with self._lock:
            if not self._running:
                return False
            self._asked.append(callback)
            os.eventfd_write(self._wake_fd, 1)
            return True

    def run(self) -> None:
        """Wait and call back until ``stop`` has been called."""
        try:
            due = time.monotonic() + self._tick
            while self._running:
                self._round(due)
                if time.monotonic() >= due:
                    self._on_tick()
                    due = time.monotonic() + self._tick
        finally:
            with self._lock:
                self._running = False
                self._epoll.close()
                os.close(self._wake_fd)

    def stop(self) -> None:
        """End ``run``; only from the reactor's thread."""
        self._running = False

    def _round(self, due: float) -> None:
        for source, events in self._epoll.poll(max(0.0, due - time.monotonic())):
            # An earlier callback of this round may have ended the watch, or everything.
            if self._running and source in self._watched:
                self._watched[source][1](events)

    def _woken(self, _: int) -> None:
        os.eventfd_read(self._wake_fd)
        while self._asked:
            self._asked.popleft()()
