"""Answers that are lines of JSON, sent as they come; who does not read waits alone, and who leaves is dropped."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

import attrs

from aegis_daemon.calls import Call
from aegis_daemon.refusals import Internal
from aegis_daemon.threads import Threads
from aegis_sdk import wire
from aegis_sdk.errors import AegisError
from aegis_sdk.model import Progress

_log = logging.getLogger(__name__)
_END = object()
#: Where the kernel does not tell of a writer's death, it is looked for that often (seconds).
_LOOK = None if sys.platform == "linux" else 1.0
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


def _next(values: Values[object]) -> object:
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


class Values(Protocol[T_co]):
    """Values that come when they come; to close it, which any thread may, ends who waits for the next one."""

    def __next__(self) -> T_co:
        """The next one; StopIteration at their end."""

    def close(self) -> None:
        """Let no more come."""


@runtime_checkable
class Batches(Protocol[T]):
    """Values that come in batches, and say when: nobody has to wait in a thread for them."""

    @property
    def ended(self) -> bool:
        """Whether there are no more."""

    def read(self) -> list[T]:
        """Those that are there now."""

    def fileno(self) -> int:
        """What becomes readable when there are more."""

    def close(self) -> None:
        """Let no more come."""


async def of(values: Values[object] | Batches[object], threads: Threads) -> AsyncIterator[bytes]:
    """*values* as lines, each of which is asked for when those before it are on their way."""
    pieces = _batches(values, threads) if isinstance(values, Batches) else _each(values, threads)
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
    except Exception as error:  # noqa: BLE001  # whatever it is, the client is to see that this is not the end
        yield _failed(error)


async def _each(values: Values[object], threads: Threads) -> AsyncGenerator[bytes, None]:
    try:
        while (value := await threads.run(partial(_next, values))) is not _END:
            yield _line(value)
    finally:
        await asyncio.shield(threads.run(values.close))


async def _batches(batches: Batches[object], threads: Threads) -> AsyncGenerator[bytes, None]:
    reading = None
    try:
        while not batches.ended:
            reading = asyncio.ensure_future(threads.run(batches.read))
            if found := await asyncio.shield(reading):
                yield b"".join(map(_line, found))
            elif not batches.ended:
                await _readable(batches.fileno())
    finally:
        await asyncio.shield(_closed(batches, reading))


async def _closed(batches: Batches[object], reading: asyncio.Future[list[object]] | None) -> None:
    """Close *batches* when nobody reads there any more."""
    if reading:
        await asyncio.wait([reading])
    batches.close()


async def _readable(descriptor: int) -> None:
    loop, come = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, come.set)
    try:
        async with asyncio.timeout(_LOOK):
            await come.wait()
    except TimeoutError:
        pass
    finally:
        loop.remove_reader(descriptor)


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
