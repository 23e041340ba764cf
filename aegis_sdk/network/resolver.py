"""Names to addresses, by this machine's own resolver: its files, its search domains, its servers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address

from aegis_sdk.network.addresses import Address

#: The addresses of a name, the one to be tried first first; none if it has none. OSError if that is not known.
Lookup = Callable[[str], tuple[Address, ...]]
_UNKNOWN = {getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)}


def look_up(name: str) -> tuple[Address, ...]:
    """What getaddrinfo says, which waits as long as it likes."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except socket.gaierror as error:
        if error.errno in _UNKNOWN:
            return ()
        raise
    except UnicodeError as error:  # the standard library has its own idea of what a name may be
        raise OSError(str(error)) from error
    return tuple(_addresses(str(where[0]) for *_, where in found))


def _addresses(texts: Iterator[str]) -> Iterator[Address]:
    for text in dict.fromkeys(texts):
        with suppress(ValueError):
            address = ip_address(text)
            if not getattr(address, "scope_id", None):  # which means something here alone
                yield address


class Resolver:
    """Asks *lookup* in threads, so many at once; lives in a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, lookup: Lookup, at_once: int, timeout: float) -> None:
        self._loop, self._lookup, self._timeout = loop, lookup, timeout
        self._free = asyncio.Semaphore(at_once)
        self._flights: dict[str, asyncio.Task[tuple[Address, ...]]] = {}

    async def resolve(self, name: str) -> tuple[Address, ...]:
        """The addresses of *name*; who asks for it meanwhile gets the same answer. OSError, also TimeoutError."""
        flight = self._flights.get(name)
        if not flight:
            flight = self._flights[name] = self._loop.create_task(self._fly(name))
            flight.add_done_callback(lambda _: self._flights.pop(name, None))
        return await asyncio.shield(flight)

    async def _fly(self, name: str) -> tuple[Address, ...]:
        async with asyncio.timeout(self._timeout):
            await self._free.acquire()
            answer: asyncio.Future[tuple[Address, ...]] = self._loop.create_future()
            # A thread of its own, for which nobody waits in the end: there is no way to call a lookup off.
            thread = threading.Thread(target=self._ask, args=(name, answer), name="aegis-lookup", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # there are too many
                self._free.release()
                raise OSError(str(error)) from error
            return await answer

    def _ask(self, name: str, answer: asyncio.Future[tuple[Address, ...]]) -> None:
        try:
            addresses, error = self._lookup(name), None
        except Exception as failed:  # noqa: BLE001  # it belongs to who waits
            addresses, error = (), failed
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._settle, answer, addresses, error)

    def _settle(
        self, answer: asyncio.Future[tuple[Address, ...]], addresses: tuple[Address, ...], error: Exception | None
    ) -> None:
        self._free.release()  # and not when its time is up: a resolver that hangs would have thread upon thread
        if answer.done():
            return
        if error:
            answer.set_exception(error if isinstance(error, OSError) else OSError(repr(error)))
        else:
            answer.set_result(addresses)
