"""The thread, and its event loop, in which the connections of one guest are answered and carried."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import attrs

from aegis_sdk.model import Network, NetworkEvent
from aegis_sdk.network.dialler import Dialler
from aegis_sdk.network.limits import Limits, Pace
from aegis_sdk.network.outgoing import Connection
from aegis_sdk.network.outside import Outside
from aegis_sdk.network.resolver import Lookup, Resolver, look_up

_DESCRIPTORS = 3  # that a connection takes
_PART = 2  # of this process's descriptors, one guest gets one in so many


class Carrier:
    """Runs from when it is made to ``close``."""

    def __init__(
        self,
        network: Network,
        note: Callable[[NetworkEvent], None],
        environ: Mapping[str, str],
        *,
        lookup: Lookup | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Let out what *network* allows, by the proxies that *environ* says; *note* is told of each attempt."""
        self.outside = Outside(network, note)
        self._limits = limits = limits or _affordable()
        self._pace = Pace(limits.rate, limits.burst)
        self._open: dict[asyncio.Task[None], Connection] = {}
        self._loop = asyncio.SelectorEventLoop()
        resolver = Resolver(self._loop, lookup=lookup or look_up, at_once=limits.lookups, timeout=limits.lookup)
        dialler = Dialler(self._loop, environ, resolver.resolve, limits.dial)
        self._connection = partial(Connection, self.outside, resolver, dialler, self._loop, limits)
        self._thread = threading.Thread(target=self._run, name="aegis-gateway", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    def take(self, connection: socket.socket, reset: Callable[[], object]) -> None:
        """Serve *connection*, which is the carrier's now; not after ``close``."""
        self._loop.call_soon_threadsafe(self._take, connection, reset)

    def update(self, network: Network) -> None:
        """From here on *network* decides, also about what is open."""
        self.outside.network = network
        self._loop.call_soon_threadsafe(self._reconsider)

    def close(self) -> None:
        """End all connections, and the thread."""
        with suppress(RuntimeError):  # it is closed already
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(asyncio.sleep(0))  # which closes what has ended in the last round
            while tasks := asyncio.all_tasks(self._loop):
                for task in tasks:
                    task.cancel()
                self._loop.run_until_complete(asyncio.wait(tasks))
        finally:
            self._loop.close()

    def _take(self, connection: socket.socket, reset: Callable[[], object]) -> None:
        connection.setblocking(False)
        full = len(self._open) >= self._limits.connections or not self._pace.take()
        story = self._connection(connection, reset, full)
        task = self._loop.create_task(story.serve())
        self._open[task] = story
        task.add_done_callback(partial(self._served, connection))

    def _reconsider(self) -> None:
        for task, story in self._open.items():
            if story.withdrawn():
                task.cancel()

    def _served(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        del self._open[task]
        # Shut down first: a forked child may hold a copy, and closing ours alone would end nothing.
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()


def _affordable() -> Limits:
    """No more connections than this process has descriptors for, beside all else that it does."""
    limits = Limits()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits
    return attrs.evolve(limits, connections=max(16, min(limits.connections, soft // _PART // _DESCRIPTORS)))
