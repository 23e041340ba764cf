"""One thread that waits on everything a machine's process has open, and calls back."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from aegis_sdk.drivers import readiness
from aegis_sdk.drivers.readiness import READ

_LOOK = 0.1  # seconds between two looks at whether there is a thread left that could call
Callback = Callable[[int], None]  # told which of READ, WRITE and HANG_UP it is


class Reactor:
    """Callbacks on readiness, all in the one thread that calls ``run``."""

    def __init__(self, *, tick: float, on_tick: Callable[[], None]) -> None:
        self._ready, self._waker = readiness.here()
        self._watched: dict[int, tuple[int, Callback]] = {}
        self._asked: deque[Callable[[], None]] = deque()
        self.watch(self._waker.fileno(), READ, self._woken)
        self._tick, self._on_tick = tick, on_tick
        self._running = True
        self._thread: int | None = None  # until it runs
        # A signal handler may ask while its own thread is asking.
        self._lock = threading.RLock()

    def watch(self, source: int, events: int, callback: Callback) -> None:
        """Call *callback* when the descriptor *source* is ready for *events*, and, always, when it hangs up."""
        known = self._watched.get(source)
        if known is None:
            self._ready.register(source, events)
        elif events != known[0]:
            self._ready.modify(source, events)
        self._watched[source] = (events, callback)

    def forget(self, source: int) -> None:
        """Watch *source* no more; fine if it is not watched."""
        if self._watched.pop(source, None):
            self._ready.unregister(source)

    def ask(self, callback: Callable[[], None]) -> bool:
        """From any thread: have *callback* called in the reactor's; false if it has ended."""
        with self._lock:
            if not self._running:
                return False
            self._asked.append(callback)
            self._waker.wake()
            return True

    def ask_and_wait(self, callback: Callable[[], None]) -> None:
        """From any thread: have *callback* called in the reactor's, and return when it was; or it has ended."""
        if threading.get_ident() == self._thread:  # which a garbage collection may have brought here
            if self._running:
                callback()
            return
        # No Event: a signal handler that asks might have interrupted its thread while that holds the Event's own lock,
        # and the reactor would wait for it.
        called: SimpleQueue[None] = SimpleQueue()

        def call() -> None:
            callback()
            called.put(None)

        if self.ask(call):
            while self._running:
                with suppress(Empty):
                    called.get(timeout=_LOOK)
                    return

    def run(self) -> None:
        """Wait and call back until ``stop`` has been called."""
        self._thread = threading.get_ident()
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
                self._ready.close()
                self._waker.close()

    def stop(self) -> None:
        """End ``run``; only from the reactor's thread."""
        self._running = False

    def _round(self, due: float) -> None:
        for source, events in self._ready.poll(max(0.0, due - time.monotonic())):
            # An earlier callback of this round may have ended the watch, or everything.
            if self._running and source in self._watched:
                self._watched[source][1](events)

    def _woken(self, _: int) -> None:
        self._waker.rest()
        while self._asked:
            self._asked.popleft()()
