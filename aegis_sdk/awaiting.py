"""Waiting for synchronous calls, each in a thread of its own, without holding an event loop up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from functools import partial, update_wrapper
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")
S_co = TypeVar("S_co", covariant=True)

_AWAKE = 0.5  # seconds


class Face(Protocol[S_co]):
    """What stands before a synchronous object."""

    @property
    def sync(self) -> S_co: ...


def in_thread(call: Callable[[], T], *, dispose: Callable[[T], None] = lambda _: None) -> asyncio.Future[T]:
    """The result of *call*, made in a new thread; *dispose* takes it if nobody waits for it any more.

    Not in asyncio's own pool: that has a handful of threads, and commands that wait for each other would use them up.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def succeed(value: T) -> None:
        if future.cancelled():
            threading.Thread(target=dispose, args=(value,), name="aegis-dispose", daemon=True).start()
        else:
            future.set_result(value)

    def fail(error: BaseException) -> None:
        if not future.cancelled():
            future.set_exception(error)

    def work() -> None:
        try:
            value = call()
        except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to who waits
            _tell(loop, partial(fail, error))
            return
        if not _tell(loop, partial(succeed, value)):
            dispose(value)

    threading.Thread(target=work, name="aegis-call", daemon=True).start()
    _keep_awake(loop, future)
    return future


def _keep_awake(loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
    """Wake the loop twice a second until *future* is done: in a notebook, an interrupt waits for that.

    Because of https://github.com/ipython/ipykernel/issues/881.
    """
    timer: asyncio.TimerHandle

    def wake() -> None:
        nonlocal timer
        timer = loop.call_later(_AWAKE, wake)

    wake()
    future.add_done_callback(lambda _: timer.cancel())


def _tell(loop: asyncio.AbstractEventLoop, what: Callable[[], None]) -> bool:
    """Have the loop call *what*; false if it was closed, and nobody waits any more."""
    try:
        loop.call_soon_threadsafe(what)
    except RuntimeError:
        return False
    return True


def awaitable(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[Face[S], P], Coroutine[Any, Any, T]]:
    """The asynchronous face of a synchronous method."""

    async def wrapper(self: Face[S], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await in_thread(lambda: method(self.sync, *args, **kwargs))

    update_wrapper(wrapper, method)
    return wrapper


async def each(pieces: Iterator[T]) -> AsyncIterator[T]:
    """The same pieces, each waited for in a thread."""
    end = object()
    while (piece := await in_thread(lambda: next(pieces, end))) is not end:
        yield piece  # type: ignore[misc]  # a T, since it is not the end
