"""Layers fetched several at a time, while others are read; and how far they are."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import attrs

from aegis_sdk.images.base import Layer
from aegis_sdk.model import Progress

AT_ONCE = 4
#: Seconds between two words on one thing.
_PAUSE = 0.2


class _CancelledError(BaseException):
    """Ends a fetch; no Exception, so that nobody takes it for a failed try and tries again."""


@attrs.define
class Meter:
    """Says how far one step of one layer is: at its beginning, its end, and a few times a second."""

    _tell: Callable[[Progress], None]
    _state: Progress
    _last: float = float("-inf")

    def at(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last >= _PAUSE:
            self._last = now
            self._tell(attrs.evolve(self._state, done=done))

    def end(self, done: int) -> None:
        self._tell(attrs.evolve(self._state, done=done, total=done))


class Downloads:
    """The layers of one image on their way here, while it is entered; to leave ends them all."""

    def __init__(self, layers: Sequence[Layer], progress: Callable[[Progress], None]) -> None:
        self._layers = layers
        self._progress = progress
        self._telling = threading.Lock()
        self._changed = threading.Condition()
        self._here: set[int] = set()
        self.error: BaseException | None = None  # what a fetch or *progress* has raised, the first of it
        self._over = False
        self._waiting = deque(range(1, len(layers) + 1))
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        try:
            for number in range(1, min(AT_ONCE, len(self._layers)) + 1):
                # A daemon, unlike the threads of an executor: a program that ends does not wait for a registry. What
                # is cut off there leaves what one that is killed leaves, and the next pull goes on with it.
                thread = threading.Thread(target=self._work, name=f"aegis-layer-{number}", daemon=True)
                thread.start()
                self._threads.append(thread)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def wait(self, number: int) -> None:
        """Return when the layer of that number is here; what ended the fetch of any layer is raised."""
        with self._changed:
            self._changed.wait_for(lambda: self.error or number in self._here)
        self.check()

    def check(self) -> None:
        """Raise what has ended the fetch of any layer."""
        if self.error:
            raise self.error

    def meter(self, number: int, step: str) -> Meter:
        """To say how far that step of the layer is."""
        layer, layers = self._layers[number - 1], len(self._layers)
        total = layer.size if step == "fetch" else None
        state = Progress(layer=layer.digest, number=number, layers=layers, step=step, done=0, total=total)
        return Meter(self._tell, state)

    def _tell(self, progress: Progress) -> None:
        with self._telling:
            try:
                self._progress(progress)
            except BaseException as error:
                self._end(error)
                raise

    def _close(self) -> None:
        self._over = True
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while not self._over:
            try:
                number = self._waiting.popleft()
            except IndexError:
                return
            self._fetch(number)

    def _fetch(self, number: int) -> None:
        meter = self.meter(number, "fetch")

        def report(done: int) -> None:
            if self._over:
                raise _CancelledError
            meter.at(done)

        try:
            report(0)
            layer = self._layers[number - 1]
            layer.fetch(report)
            report(layer.size)
            meter.end(layer.size)
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self._end(error)
        else:
            with self._changed:
                self._here.add(number)
                self._changed.notify_all()

    def _end(self, error: BaseException) -> None:
        with self._changed:
            if not self._over:
                self.error, self._over = error, True
            self._changed.notify_all()
