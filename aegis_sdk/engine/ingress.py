"""The way in to what an engine runs: its router, what is placed behind that, and local ports for ports of apps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from aegis_sdk.config import Config
from aegis_sdk.engine.hosts import Host, Hosts
from aegis_sdk.errors import PortTaken, Unavailable
from aegis_sdk.model import Port
from aegis_sdk.routing.base import RoutingPolicy

if TYPE_CHECKING:
    from aegis_sdk.routing.router import Router

#: Below what kernels give to who asks for any port, so that a port that is remembered is mostly free later.
_FIRST, _LAST = 20_000, 29_999
_TRIES = 64


class PortRecords(Protocol):
    """Which ports of this machine stand for ports of apps, over restarts."""

    def local_port(self, app: str, port: int) -> int | None:
        """That for *port* of the app with that ID."""

    def remember(self, app: str, port: int, local: int) -> bool:
        """Remember one; false if it is another's."""


class Ingress:
    """It; any thread may call, but none that holds what a host's ``hold`` waits for."""

    def __init__(
        self,
        config: Config,
        *,
        policies: Callable[[], Sequence[RoutingPolicy]],
        records: PortRecords,
        exact: bool,
    ) -> None:
        """With *exact*, as in the daemon, it listens where it is expected or not at all; else another port will do."""
        self._config, self._policies, self._records, self._exact = config, policies, records, exact
        self._hosts = Hosts()
        self._lock = threading.Lock()  # of what listens
        self._router: Router | None = None  # until something is to be reached, and when that is over
        self._closed = False
        self._parting: list[threading.Thread] = []  # that end routers
        self._fault: PortTaken | None = None  # of the last try to listen
        self._exposed: dict[str, dict[int, int]] = {}

    @property
    def url(self) -> str:
        """Where the router answers; empty if it does not listen."""
        router = self._router
        return router.url if router else ""

    @property
    def fault(self) -> str:
        """Why the router does not listen although it was to, and what to do; empty if there is nothing wrong."""
        fault = self._fault
        return f"{fault.message}; {fault.hint}" if fault else ""

    @property
    def is_here(self) -> bool:
        """Whether it is the router's thread that asks."""
        router = self._router
        return router is not None and router.is_here

    def address(self, app: str) -> str:
        """Where the app of that name is reached by HTTP; empty if the router does not listen."""
        url = self.url
        return f"{url}/app/{app}/" if url else ""

    def open(self) -> str:
        """The URL of the router, which listens from here on; PortTaken, and the next call tries again."""
        with self._lock:
            return self._opened().url

    def place(self, app: str, name: str, hosts: Sequence[Host], *, task: bool = False) -> None:
        """Have the app with that ID and name be served by *hosts*, the first by default; it is known if there are none.

        When this returns, no request goes to who served it before but those that hold it. In a process the router
        listens while there is anything to be reached, and this opens it.
        """
        gone = self._hosts.place(app, name, hosts, task=task)
        if hosts and not self._exact:
            self.open()
        self._forget(gone)

    def take_away(self, app: str) -> None:
        """Know the app no more, nor its ports."""
        self.conceal(app)
        self._forget(self._hosts.take_away(app))

    def changed(self, app: str) -> None:
        """Look anew at what the app's hosts say they are."""
        self._hosts.changed(app)

    def expose(self, app: str, ports: Sequence[Port], *, remembered: bool = True) -> Mapping[str, str]:
        """Have those of *ports* that are not HTTP, and no others, be reached by ports of this machine; their addresses.

        They are where the app has had them before, if they are *remembered*. PortTaken, and all is as it was.
        """
        with self._lock:
            router, name = self._opened(), self._hosts.name(app)
            now, before = {}, self._exposed.get(app, {})
            with ExitStack() as undo:
                for port in (port for port in ports if port.protocol != "http"):
                    local = before.get(port.number)
                    if local is None or port.local not in (None, local):
                        listen = partial(router.expose, name, port.number)
                        local = self._listen(listen, app, port) if remembered else listen(at=port.local or 0)
                        undo.callback(router.conceal, local)
                    now[port.number] = local
                undo.pop_all()
            self._exposed[app] = now
            for local in set(before.values()) - set(now.values()):
                router.conceal(local)
        return {f"{number}/tcp": f"127.0.0.1:{local}" for number, local in now.items()}

    def conceal(self, app: str) -> None:
        """Have no port of this machine stand for one of the app."""
        with self._lock:
            for local in self._exposed.pop(app, {}).values():
                if self._router:
                    self._router.conceal(local)

    def rest(self) -> None:
        """In a process, listen no more if there is nothing to be reached."""
        with self._lock:
            if self._router and not self._exact and not self._hosts.any:
                self._router.deafen()
                self._part()

    def close(self) -> None:
        """Listen no more, and end all connections."""
        with self._lock:
            self._closed = True
            self._part()
        for thread in self._parting.copy():
            thread.join()

    def _part(self) -> None:
        """End the router: aside, because it waits for wakes that who calls this may be about to end."""
        self._exposed.clear()
        if router := self._router:
            self._router = None
            self._parting = [thread for thread in self._parting if thread.is_alive()]
            self._parting.append(threading.Thread(target=router.close, name="aegis-ingress", daemon=True))
            self._parting[-1].start()

    def _opened(self) -> Router:
        if self._closed:
            raise Unavailable("this engine has been closed")
        if not self._router:
            try:
                self._router, self._fault = self._made(), None
            except PortTaken as error:
                self._fault = _refused(error)
                raise self._fault from error
        return self._router

    def _made(self) -> Router:
        # Late: asyncio would cost who serves nothing a tenth of a second.
        from aegis_sdk.routing.router import Router

        return Router(
            self._hosts,
            policies=self._policies(),
            port=self._config.router_port,
            or_any=not self._exact,
            names=self._config.router_names,
        )

    def _listen(self, listen: Callable[..., int], app: str, port: Port) -> int:
        known = self._records.local_port(app, port.number)
        if at := port.local or (known if self._exact else None):
            return listen(at=at)
        for at in _candidates(app, port.number, known):
            if known or self._records.remember(app, port.number, at):
                with suppress(PortTaken):
                    return listen(at=at)
        return listen()

    def _forget(self, instances: Sequence[str]) -> None:
        if instances and (router := self._router):
            router.settle()  # whose requests may have looked for them before
        self._hosts.forget(instances)
        if instances:
            self.rest()


def _candidates(app: str, port: int, known: int | None) -> Iterator[int]:
    if known:
        yield known
    start = int.from_bytes(sha256(f"{app}:{port}".encode()).digest()[:4], "big")
    for tried in range(_TRIES):
        yield _FIRST + (start + tried) % (_LAST - _FIRST + 1)


def _refused(error: PortTaken) -> PortTaken:
    hint = f"{error.hint}; end that, and serve an app, which tries again, or start with AEGIS_ROUTER_PORT=0"
    return PortTaken(f"the router {error.message}", hint=hint)
