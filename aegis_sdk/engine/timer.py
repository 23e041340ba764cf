"""What is to be done later: one thread for all of it, and none while there is nothing."""

from __future__ import annotations

import heapq
import itertools
import sys
import threading
import time
from collections.abc import Callable

#: A wait that takes so much longer than it should (seconds) is one in which this process, or its host, stood still.
_STOOD_STILL = 5.0
_LONGEST = 3600.0  # of a wait


class Timer:
    """Calls, each at its time, in a thread of the timer's: they may not take long.

    Time in which this process stood still, as in a laptop that was shut, does not count: not all is late then.
    """

    def __init__(self) -> None:
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None  # while there is something to be done
        self._lost = 0.0

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Have *call* called in so many seconds."""
        with self._changed:
            heapq.heappush(self._calls, (self._now() + seconds, next(self._numbers), call))
            self._changed.notify()
            if not self._thread:
                thread = threading.Thread(target=self._run, name="aegis-timer", daemon=True)
                thread.start()  # where no thread is to be had, the next call tries again
                self._thread = thread

    def close(self) -> None:
        """Forget what was to be done; what is being done is waited for."""
        with self._changed:
            self._calls.clear()
            self._changed.notify()
            thread = self._thread
        if thread and thread is not threading.current_thread():
            thread.join()

    def _now(self) -> float:
        return time.monotonic() - self._lost

    def _run(self) -> None:
        while call := self._next():
            try:
                call()
            except Exception:  # noqa: BLE001  # it is a fault of ours, to be seen, and keeps nothing else from its time
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while self._calls:
                left = self._calls[0][0] - self._now()
                if left <= 0:
                    return heapq.heappop(self._calls)[2]
                self._wait(min(left, _LONGEST))
            self._thread = None
            return None

    def _wait(self, seconds: float) -> None:
        began = time.monotonic()
        self._changed.wait(seconds)
        late = time.monotonic() - began - seconds
        if late > _STOOD_STILL:
            self._lost += late
