"""The router: one thread that serves HTTP on one port of the loopback, and TCP on those that are declared."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Self

from aegis_sdk.errors import InvalidValue
from aegis_sdk.routing.admission import Admission
from aegis_sdk.routing.base import Backends, RoutingPolicy
from aegis_sdk.routing.connection import Connection, Rules
from aegis_sdk.routing.limits import Limits
from aegis_sdk.routing.listener import HOST, Clients, Listener, listen
from aegis_sdk.routing.loop import Loop
from aegis_sdk.routing.ports import PortConnection, TcpPort
from aegis_sdk.routing.refusals import Refuse
from aegis_sdk.routing.stream import Stream
from aegis_sdk.routing.upstreams import Upstreams

PORT = 8099
_FULL = Refuse(503, "there are too many connections to the router", retry_after=1)


class Router:
    """Listens from ``start`` to ``close``; its methods may be called from any thread."""

    def __init__(
        self,
        backends: Backends,
        *,
        policies: Sequence[RoutingPolicy],
        port: int = PORT,
        or_any: bool = False,
        names: Iterable[str] = (),
        limits: Limits = Limits(),  # noqa: B008  # it is frozen
    ) -> None:
        """Serve the apps of *backends* on 127.0.0.1:*port*, or, with *or_any*, on a free port if that is taken.

        PortTaken if it is. *names* are hosts, ``NAME`` or ``NAME:PORT``, that it answers to beside the loopback's.
        """
        with ExitStack() as undo:
            listening = undo.enter_context(listen(port, or_any=or_any))
            self._loop = Loop()
            undo.pop_all()
        self.port: int = listening.getsockname()[1]
        self._backends, self._limits = backends, limits
        self._upstreams = Upstreams(backends, limits, self._loop)
        self._clients = Clients(self._loop, most=limits.connections, sweep=self._upstreams.sweep)
        self._rules = Rules(
            backends=backends,
            policies=policies,
            admission=Admission(port=self.port, names=frozenset(name.lower() for name in names)),
            limits=limits,
            upstreams=self._upstreams,
        )
        self._listeners = {self.port: Listener(self._loop, listening, self._welcome)}
        self._closing = asyncio.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = threading.Thread(target=self._run, name="aegis-router", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """Where it answers; an app's address is this, ``/app/NAME/``."""
        return f"http://{HOST}:{self.port}"

    @property
    def is_here(self) -> bool:
        """Whether it is its own thread that asks."""
        return self._thread is threading.current_thread()

    def expose(self, app: str, port: int, *, at: int = 0) -> int:
        """Listen on port *at* of 127.0.0.1, a free one if that is 0, for raw connections to *port* of *app*.

        Gives the port; PortTaken if somebody else has it. It goes to what serves the app at the time of a connection.
        """
        listening = listen(at)
        number: int = listening.getsockname()[1]
        with ExitStack() as undo:
            undo.enter_context(listening)
            self._ask(partial(self._add, listening, number, TcpPort(app=app, port=port)))
            undo.pop_all()
        return number

    def conceal(self, at: int) -> None:
        """Listen on port *at* no more; connections that are open stay."""
        self._ask(partial(self._remove, at))

    def deafen(self) -> None:
        """Listen no more, on no port; connections that are open stay until ``close``."""
        self._ask(self._stop_listening)

    def settle(self) -> None:
        """Return when each request that was routed by an earlier snapshot holds its instance; at once if closed."""
        with suppress(InvalidValue):
            self._ask(lambda: None)  # no request waits between the two

    def close(self) -> None:
        """End every connection and every listener; calls of ``wake`` and ``dial`` under way are waited for."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread:
            self._loop.call_soon_threadsafe(self._closing.set)
            thread.join()
            self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        await self._closing.wait()
        self._stop_listening()
        await self._clients.close()
        await self._upstreams.close()

    def _stop_listening(self) -> None:
        while self._listeners:
            self._listeners.popitem()[1].close()

    def _ask(self, call: Callable[[], None]) -> None:
        """Have *call* called in the loop's thread; InvalidValue if the router was closed."""
        with self._lock:
            if not self._thread:
                raise InvalidValue("the router was closed")
            done = threading.Event()
            self._loop.call_soon_threadsafe(call)
            self._loop.call_soon_threadsafe(done.set)
        done.wait()

    def _add(self, listening: socket.socket, number: int, to: TcpPort) -> None:
        self._listeners[number] = Listener(self._loop, listening, partial(self._welcome_to, to))

    def _remove(self, number: int) -> None:
        if number != self.port and (listener := self._listeners.pop(number, None)):
            listener.close()

    def _welcome(self, connected: socket.socket, address: str) -> None:
        full = None if self._clients.make_room() else _FULL
        if self._clients.crowded:
            connected.close()
            return
        client = Stream(self._loop, connected)
        self._clients.add(Connection(client, address=address, rules=self._rules, full=full))

    def _welcome_to(self, to: TcpPort, connected: socket.socket, _address: str) -> None:
        if not self._clients.make_room():
            connected.close()
            return
        client = Stream(self._loop, connected)
        self._clients.add(PortConnection(client=client, to=to, backends=self._backends, upstreams=self._upstreams))
