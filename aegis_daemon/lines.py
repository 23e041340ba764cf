"""Answers that are lines of JSON, sent as they come; who does not read waits alone, and who leaves is dropped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Protocol

import attrs

from aegis_daemon.calls import Call
from aegis_daemon.refusals import Internal
from aegis_daemon.threads import Threads
from aegis_sdk import wire
from aegis_sdk.errors import AegisError
from aegis_sdk.model import Progress

_log = logging.getLogger(__name__)
_END = object()


def _next(values: Closable) -> Any:
    try:
        return next(values)
    except StopIteration:
        return _END


def _line(value: object) -> bytes:
    return wire.dumps(value) + b"\n"


def _failed(error: BaseException) -> bytes:
    if not isinstance(error, AegisError):
        _log.error("an answer failed", exc_info=error)
        error = Internal("the daemon failed", hint="its log says more: data/logs/aegisd.log in its home")
    return _line({"error": wire.to_json(error)})


class Closable(Protocol):
    """Values that come when they come; to close it, which any thread may, ends who waits for the next one."""

    def __next__(self) -> Any:
        """The next one; StopIteration at their end."""

    def close(self) -> None:
        """Let no more come."""


async def of(values: Closable, threads: Threads) -> AsyncIterator[bytes]:
    """*values* as lines, each of which is asked for when the one before it is on its way."""
    try:
        while (value := await threads.run(partial(_next, values))) is not _END:
            yield _line(value)
    except Exception as error:  # noqa: BLE001  # whatever it is, the client is to see that this is not the end
        yield _failed(error)
    finally:
        await asyncio.shield(threads.run(values.close))


async def reported(verb: Callable[[Call], Any], call: Call, threads: Threads) -> AsyncIterator[bytes]:
    """How far *verb* is, and then what it gives or raises."""
    news = _News(asyncio.get_running_loop())
    work = asyncio.create_task(threads.run(partial(verb, attrs.evolve(call, tell=news.tell))))
    work.add_done_callback(news.end)
    try:
        while latest := await news.next():
            yield _line({"progress": latest})
        try:
            yield _line({"result": work.result()})
        except Exception as error:  # noqa: BLE001  # as above
            yield _failed(error)
    finally:
        call.gone.set()


@attrs.define
class _News:
    """Progress from threads, for one who may be slow: of each step of each layer it hears the latest."""

    _loop: asyncio.AbstractEventLoop
    _latest: dict[tuple[str, str], Progress] = attrs.field(factory=dict)
    _come: asyncio.Event = attrs.field(factory=asyncio.Event)
    _ended: bool = False

    def tell(self, progress: Progress) -> None:
        """Take what any thread has to say."""
        self._loop.call_soon_threadsafe(self._hear, progress)

    def end(self, work: asyncio.Task[Any]) -> None:
        """Let no more come."""
        work.exception()  # asked for, so that nobody complains if it has no reader
        self._ended = True
        self._come.set()

    async def next(self) -> Progress | None:
        """The next progress; None at the end."""
        while not self._latest:
            if self._ended:
                return None
            await self._come.wait()
            self._come.clear()
        return self._latest.pop(next(iter(self._latest)))

    def _hear(self, progress: Progress) -> None:
        self._latest[progress.layer, progress.step] = progress
        self._come.set()
