"""Declared TCP ports: a listener each, whose connections wake the app and are passed on as they are."""

from __future__ import annotations

import asyncio
from time import monotonic

import attrs

from aegis_sdk.routing.base import Backends
from aegis_sdk.routing.refusals import Refused
from aegis_sdk.routing.stream import Gone, Silent, Stream
from aegis_sdk.routing.tunnel import tunnel
from aegis_sdk.routing.upstreams import Target, Upstreams

_WAIT = 30.0


@attrs.frozen(kw_only=True)
class TcpPort:
    """What a listener's connections are for: *port* of the first instance of the app named *app*."""

    app: str
    port: int


@attrs.define(eq=False, kw_only=True)
class PortConnection:
    """A client of a TCP port; *serve* is its story, a task of the router's loop."""

    client: Stream
    to: TcpPort
    backends: Backends
    upstreams: Upstreams
    idle: bool = False  # once nothing has gone either way for long
    _backend: Stream | None = attrs.field(default=None, init=False)  # once there is a connection to the app
    _since: float = attrs.field(factory=monotonic, init=False)

    async def serve(self) -> None:
        """Pass on both directions until both have ended; what cannot be reached is a connection that is closed."""
        try:
            app = self.backends.snapshot().get(self.to.app)
            if app and app.instances:
                await self._carry(Target(app.instances[0].id, self.to.port))
        except (Gone, Silent, Refused, asyncio.CancelledError):
            pass  # raw bytes have no room for words
        finally:
            self.client.close()

    def check(self, now: float) -> None:
        """See whether it is idle; nothing of it has a limit of time but what the engine bounds."""
        self.client.expire(now)
        if backend := self._backend:
            heard = max(self._since, self.client.last_heard, backend.last_heard)
            self.idle = now - heard > self.upstreams.limits.silence

    async def _carry(self, target: Target) -> None:
        awake = self.backends.hold(target.instance)
        try:
            if not awake:
                await self.upstreams.wake(target.instance, wait=_WAIT)
            backend = self._backend = await self.upstreams.dial(target, wait=_WAIT)
            try:
                await tunnel(self.client, backend)
            finally:
                backend.close()
        finally:
            self.backends.let_go(target.instance)
