"""An app's guest: asked by way of the router and without it, and woken by a request."""

from __future__ import annotations

import http.client
import os
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.engine.local import LocalEngine
from aegis_sdk.guest import ports
from aegis_sdk.model import AppSpec, InstanceState, Port, Progress
from benchmarks import router
from benchmarks.floor import Ground, compiled

_PORT = 8000
_DIAL = 10.0
_GIB = 1 << 30
_WAKES, _BOOTS = 20, 5
_SOON = 0.4  # seconds until an idle guest sleeps
_PATIENCE = 30.0


@attrs.frozen
class Served:
    """An app that is served by the engine of this process, in a guest that answers at once and keeps connections."""

    engine: LocalEngine
    app: str

    @property
    def instance(self) -> aegis.InstanceInfo:
        return self.engine.apps.instances(self.app)[0]

    def dial(self) -> socket.socket:
        """A connection to its port without the router."""
        sandbox = self.instance.sandbox
        if sandbox is None:
            raise SystemExit("the app's guest has ended")
        return ports.connect(self.engine.dial(sandbox), _PORT, timeout=_DIAL)

    def ask(self) -> float:
        """Seconds of one request on a connection of its own."""
        where = urlsplit(self.instance.url)
        start = time.perf_counter()
        connection = http.client.HTTPConnection(f"{where.hostname}:{where.port}", timeout=_PATIENCE)
        connection.request("GET", where.path)
        answer = connection.getresponse()
        said = answer.read()
        took = time.perf_counter() - start
        connection.close()
        if answer.status != 200:
            raise SystemExit(f"the app answers {answer.status}: {said[:200]!r}")
        return took

    def sleep(self, state: InstanceState) -> None:
        """Wait until it has come into *state* by itself."""
        deadline = time.monotonic() + _PATIENCE
        while self.instance.state is not state:
            if time.monotonic() > deadline:
                raise SystemExit(f"the app does not become {state}: it is {self.instance}")
            time.sleep(0.02)


@contextmanager
def served(*, idle: float | None = None, stop_after: float | None = None) -> Iterator[Served]:
    """Such an app; it sleeps after so many seconds, if that is said."""
    engine = LocalEngine(Config.from_environment())
    try:
        spec = AppSpec(
            command=("/workspace/served", f"127.0.0.1:{_PORT}"), expose=(Port(_PORT),), idle=idle, stop_after=stop_after
        )
        app = engine.apps.create("web", spec)
        program = Path(app.workspace, "served")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_bytes(compiled("served").read_bytes())
        program.chmod(0o755)
        engine.apps.publish(app.id, label=None, report=_unheard)
        engine.apps.serve(app.id, release=None, beside=False, report=_unheard)
        yield Served(engine, app.id)
        engine.apps.delete(app.id, workspace=True)
    finally:
        engine.close()


def _unheard(_progress: Progress) -> None:
    """Nobody asked."""


def loads(connections: int) -> tuple[router.Load, router.Load]:
    """The load by way of the router, and over as many connections to the guest's own port; the medians of rounds."""
    ours, floors = [], []
    with served() as app:
        where = urlsplit(app.instance.url).netloc
        for _ in range(router.ROUNDS):
            ours.append(router.load(os.getpid(), where, connections))
            with ExitStack() as stack:
                dialled = tuple(stack.enter_context(app.dial()).fileno() for _ in range(connections))
                floors.append(router.load(os.getpid(), ",".join(map(str, dialled)), connections, given=dialled))
    return router.median(ours), router.median(floors)


def transfer(ground: Ground) -> tuple[float, float]:
    """A GiB from a port of a guest, to nowhere; against as many bytes over the bare port. In MB a second."""
    with ground.boot() as floor, served() as app:
        floor_ = _GIB / floor.pour(_GIB)
        with app.dial() as connection:
            start, room = time.perf_counter(), bytearray(1 << 20)
            connection.sendall(b"GET /large HTTP/1.1\r\n\r\n")
            size = sum(iter(lambda: connection.recv_into(room), 0))
            took = time.perf_counter() - start
    if size < _GIB:
        raise SystemExit(f"the guest has sent {size} bytes")
    return _GIB / took / 1e6, floor_ / 1e6


def paused(ground: Ground) -> tuple[float, float]:
    """A request to a guest that is paused; against its monitor's own going on, and one word of the guest. In ms."""
    ours, floors = [], []
    with ground.boot() as floor, served(idle=_SOON) as app:
        for _ in range(_WAKES):
            floors.append(floor.wake())
            app.sleep(InstanceState.PAUSED)
            ours.append(app.ask())
    return statistics.median(ours) * 1e3, statistics.median(floors) * 1e3


def stopped() -> tuple[float, float]:
    """A request to a guest that is stopped; against ``Sandbox()`` to its first command's result. In seconds."""
    ours, floors = [], []
    with served(idle=_SOON, stop_after=_SOON) as app:
        for _ in range(_BOOTS):
            start = time.perf_counter()
            with aegis.Sandbox() as vm:
                vm.run("true")
                floors.append(time.perf_counter() - start)
            app.sleep(InstanceState.STOPPED)
            ours.append(app.ask())
    return statistics.median(ours), statistics.median(floors)
