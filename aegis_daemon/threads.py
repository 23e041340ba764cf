"""Threads for the engine's verbs, each of which may wait as long as it likes without another noticing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """Runs functions in threads, at most so many at once; the rest wait for their turn.

    A thread a call: to start one costs less than to read a request, and none is left when a burst is over. They do not
    keep the process from ending.
    """

    def __init__(self, most: int) -> None:
        self._turns = asyncio.Semaphore(most)

    async def run(self, function: Callable[[], T]) -> T:
        """What *function* returns or raises; it runs to its end also if the one who waits for it is cancelled."""
        await self._turns.acquire()
        loop, outcome = asyncio.get_running_loop(), Future[T]()
        outcome.set_running_or_notify_cancel()  # so that it cannot be cancelled
        outcome.add_done_callback(lambda _: self._release(loop))
        try:
            threading.Thread(target=_work, args=(function, outcome), name="verb", daemon=True).start()
        except BaseException as error:  # noqa: BLE001  # as from the function
            outcome.set_exception(error)
        return await asyncio.wrap_future(outcome)

    def _release(self, loop: asyncio.AbstractEventLoop) -> None:
        with suppress(RuntimeError):  # the loop may have been faster in ending
            loop.call_soon_threadsafe(self._turns.release)


def _work(function: Callable[[], T], outcome: Future[T]) -> None:
    try:
        outcome.set_result(function())
    except BaseException as error:  # noqa: BLE001  # it is raised where it is waited for
        outcome.set_exception(error)
