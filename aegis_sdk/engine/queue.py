"""Who waits for a place: jobs in threads of their own, so many at once, first come first served."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

#: What is left to do, if anything, when the place has been given back.
Rest = Callable[[], None]
Job = Callable[[], Rest | None]


class Queue:
    """Runs jobs in *places* threads at most; what a job leaves to be done afterwards takes no place."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: deque[Job] = deque()
        self._lock = threading.Lock()

    def put(self, job: Job) -> None:
        """Have *job* run when it is its turn."""
        with self._lock:
            self._waiting.append(job)
        self._start()

    def _start(self) -> None:
        with self._lock:
            if not self._free or not self._waiting:
                return
            self._free -= 1
            job = self._waiting.popleft()
        try:
            threading.Thread(target=self._run, args=(job,), name="aegis-task", daemon=True).start()
        except RuntimeError:  # the system gives this process no more threads
            with self._lock:
                self._free += 1
                self._waiting.appendleft(job)
            raise

    def _run(self, job: Job) -> None:
        rest = None
        try:
            rest = job()
        finally:
            with self._lock:
                self._free += 1
            self._start()
        if rest:
            rest()
