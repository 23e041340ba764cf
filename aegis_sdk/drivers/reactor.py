"""One thread that waits on everything a machine's process has open, and calls back."""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
Callback = Callable[[int], None]  # told which of READ and WRITE it may do now


def _nobody(_: int) -> None:
    """Who is called when nothing is waited for."""


class Reactor:
    """Callbacks on readiness, all in the one thread that calls ``run``."""

    def __init__(self, *, tick: float, on_tick: Callable[[], None]) -> None:
        self._selector = selectors.DefaultSelector()
        self._asked: deque[Callable[[], None]] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake_fd, READ, self._woken)
        self._tick, self._on_tick = tick, on_tick
        self._running = True
        self._lock = threading.Lock()

    def watch(self, source: Any, events: int, callback: Callback = _nobody) -> None:
        """Call *callback* when *source* (a file number or object) is ready for *events*; 0 ends it."""
        known = self._selector.get_map().get(source)
        if known is None:
            if events:
                self._selector.register(source, events, callback)
        elif not events:
            self._selector.unregister(source)
        elif events != known.events:
            self._selector.modify(source, events, callback)

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
                self._selector.close()
                os.close(self._wake_fd)

    def stop(self) -> None:
        """End ``run``; only from the reactor's thread."""
        self._running = False

    def _round(self, due: float) -> None:
        for key, events in self._selector.select(max(0.0, due - time.monotonic())):
            # An earlier callback of this round may have ended the watch, or everything.
            if self._running and self._selector.get_map().get(key.fd) is key:
                key.data(events)

    def _woken(self, _: int) -> None:
        os.eventfd_read(self._wake_fd)
        while self._asked:
            self._asked.popleft()()
