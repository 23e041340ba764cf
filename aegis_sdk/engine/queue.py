"""Who waits for a place: jobs in threads of their own, so many at once, first come first served."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial

#: What is left to do when the place has been given back.
Rest = Callable[[], None]
Job = Callable[[], Rest]


class Queue:
    """Runs jobs, which raise nothing, *places* at once; what a job leaves to be done afterwards takes no place."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[Job] = deque()
        self._lock = threading.Lock()

    def put(self, job: Job) -> None:
        """Have *job* run when it is its turn; RuntimeError if the system gives this process no thread for it."""
        with self._lock:
            if not self._free:
                self._waiting.append(job)
                return
            self._free -= 1
        try:
            _thread(partial(self._run, job))
        except RuntimeError:
            with self._lock:
                self._free += 1
            raise

    def _run(self, job: Job) -> None:
        following: Job | None = job
        while following:
            rest = following()
            if not (following := self._next()):
                rest()
                return
            try:
                _thread(rest)
            except RuntimeError:  # then those who wait, wait for it, too
                rest()

    def _next(self) -> Job | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._free += 1
            return None


def _thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="aegis-task", daemon=True).start()
