"""Connections to the ports of instances: woken once for all who wait, dialled in threads, kept for the next request."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic
from typing import NamedTuple
from weakref import WeakValueDictionary

from aegis_sdk.errors import AegisError, NotServed, ServerFailed
from aegis_sdk.routing.base import Asleep, Backends
from aegis_sdk.routing.limits import Limits
from aegis_sdk.routing.refusals import Refused
from aegis_sdk.routing.stream import Stream

_WAKES, _DIALS = 64, 64  # threads at most
_RETRY_AFTER = 1
#: How often an instance may fall asleep between its wake and the dial: it can only by being stopped.
_TRIES = 3


class Target(NamedTuple):
    """A port of an instance."""

    instance: str
    port: int


class Upstreams:
    """All connections to apps; lives in the router's loop."""

    def __init__(self, backends: Backends, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.backends, self.limits, self._loop = backends, limits, loop
        self._kept: dict[Target, deque[tuple[Stream, float]]] = {}
        self._flights: dict[str, asyncio.Future[None]] = {}
        self._gates: WeakValueDictionary[Target, asyncio.Semaphore] = WeakValueDictionary()
        self._dialling: set[asyncio.Future[socket.socket]] = set()
        self._wakes = ThreadPoolExecutor(_WAKES, "aegis-wake")
        self._dials = ThreadPoolExecutor(_DIALS, "aegis-dial")

    async def wake(self, instance: str, *, wait: float, reload: bool = False) -> None:
        """Return when *instance* is awake; Refused if it takes longer than *wait* seconds, or cannot be."""
        self._forget(instance)  # after a boot, what was connected is not
        flight = self._flights.get(instance) or self._take_off(instance)
        # Not cancelled with who waits: it goes on for the others, and for who comes back.
        await asyncio.wait([flight], timeout=wait)
        if not flight.done():
            raise Refused(503, "the app is waking up", retry_after=_RETRY_AFTER, reload=reload)
        if error := flight.exception():
            raise _refused(error, "cannot be woken") from error

    def kept(self, target: Target) -> Stream | None:
        """A connection that was used before and can be again, if there is one."""
        kept = self._kept.get(target)
        while kept:
            stream = kept.pop()[0]
            if not stream.ended and not stream.waiting:
                return stream
            stream.close()
        return None

    async def dial(self, target: Target, *, wait: float) -> Stream:
        """A new connection; an instance that fell asleep is woken once more."""
        for _ in range(_TRIES):
            try:
                return Stream(self._loop, await self._dial(target))
            except Asleep:
                await self.wake(target.instance, wait=wait)
            except (AegisError, OSError) as error:
                raise _refused(error, f"does not take connections on port {target.port}") from error
        raise Refused(503, "the app does not stay awake", retry_after=_RETRY_AFTER)

    def keep(self, target: Target, stream: Stream) -> None:
        """Keep *stream* for the next request to *target*, or close it."""
        kept = self._kept.get(target)
        if kept is None:
            kept = self._kept[target] = deque()
        kept.append((stream, monotonic() + self.limits.kept))
        if len(kept) > self.limits.pooled:
            kept.popleft()[0].close()

    def sweep(self, now: float) -> bool:
        """Close what was kept long enough, or has been closed by the other side; whether there is more to look at."""
        for target, kept in list(self._kept.items()):
            for stream, until in kept.copy():
                if now >= until or stream.ended or stream.waiting:
                    kept.remove((stream, until))
                    stream.close()
            if not kept:
                del self._kept[target]
        return bool(self._kept)

    async def close(self) -> None:
        """Close what is kept, and wait for the calls that are under way, so that nothing comes after this."""
        self.sweep(float("inf"))
        while self._flights or self._dialling:
            await asyncio.gather(*self._flights.values(), *self._dialling, return_exceptions=True)
            await asyncio.sleep(0)  # for what is to be done with what they brought
        self._wakes.shutdown()
        self._dials.shutdown()

    def _take_off(self, instance: str) -> asyncio.Future[None]:
        flight = self._loop.run_in_executor(self._wakes, partial(self.backends.wake, instance))
        self._flights[instance] = flight
        flight.add_done_callback(partial(self._landed, instance))
        return flight

    def _landed(self, instance: str, flight: asyncio.Future[None]) -> None:
        del self._flights[instance]
        if not flight.cancelled():
            flight.exception()  # nobody may be there to look at it, which is no mistake

    def _forget(self, instance: str) -> None:
        for target in [target for target in self._kept if target.instance == instance]:
            for stream, _ in self._kept.pop(target):
                stream.close()

    async def _dial(self, target: Target) -> socket.socket:
        gate = self._gates.setdefault(target, asyncio.Semaphore(self.limits.dials))
        # Its turn is a part of the wait for the app's answer; only what the app does to connect has the time for that.
        async with asyncio.timeout(self.limits.answer), gate, asyncio.timeout(self.limits.connect):
            call = partial(self.backends.dial, target.instance, target.port, timeout=self.limits.connect)
            dialling = self._loop.run_in_executor(self._dials, call)
            self._dialling.add(dialling)
            dialling.add_done_callback(self._dialling.discard)
            return await _shielded(dialling)


async def _shielded(dialling: asyncio.Future[socket.socket]) -> socket.socket:
    try:
        return await asyncio.shield(dialling)
    except asyncio.CancelledError:
        dialling.add_done_callback(_close)  # its thread goes on, and nobody waits for what it brings
        raise


def _close(dialled: asyncio.Future[socket.socket]) -> None:
    if not dialled.cancelled() and not dialled.exception():
        dialled.result().close()


def _refused(error: BaseException, what: str) -> Refused:
    status = 504 if isinstance(error, TimeoutError) else 503 if isinstance(error, (NotServed, ServerFailed)) else 502
    said = str(error) or type(error).__name__
    return Refused(status, f"the app {what}: {said}")
