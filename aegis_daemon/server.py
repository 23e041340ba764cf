"""The daemon's life: it listens, serves, and ends in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import attrs
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from aegis_daemon.application import application
from aegis_daemon.calls import Daemon
from aegis_daemon.guests import Guests
from aegis_daemon.leases import Leases
from aegis_daemon.threads import Threads
from aegis_sdk import __version__, sockets
from aegis_sdk.config import Config
from aegis_sdk.engine.local import LocalEngine
from aegis_sdk.errors import AegisError
from aegis_sdk.model import DaemonStatus, State, TaskState

_log = logging.getLogger(__name__)
_SLOW = 2048  # what may wait at once
_ENDING = 30.0  # seconds for guests and tasks to end
_PARTING = 3  # seconds for answers on their way
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Trusting(H11Protocol):
    """HTTP with this user, and nobody else who could open the socket."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        if not sockets.peer(transport.get_extra_info("socket")).trusted:
            transport.abort()


class _Http(uvicorn.Server):
    """Serves until it is told to end, and looks at no clock meanwhile."""

    def __init__(self, config: uvicorn.Config, over: asyncio.Event) -> None:
        super().__init__(config)
        self._over = over

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self._over.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they are ours


@attrs.define
class _Wanted:
    """Whether, and how, the daemon is to end."""

    over: asyncio.Event = attrs.field(factory=asyncio.Event)
    again: bool = False

    def end(self, again: bool) -> None:  # noqa: FBT001  # as a signal's handler or a route calls it
        self.again = self.again or again
        self.over.set()


async def serve(config: Config, http: socket.socket, guests: socket.socket, *, ready: Callable[[], None]) -> None:
    """Serve on both sockets until a signal or a client has it end; *ready* is called when it answers."""
    engine, slow, wanted = LocalEngine(config, keeps=True), Threads(_SLOW), _Wanted()
    serving = _serving(_daemon(engine, config, wanted), wanted, slow, http, guests)
    try:
        await slow.run(partial(_take_up, engine, wanted.over))
        ready()
        _log.info("aegisd %s, process %d, serves %s", __version__, os.getpid(), config.home)
        await wanted.over.wait()
        _log.info("ending%s", ", to be gone on with" if wanted.again else "")
        await _end(slow, engine, again=wanted.again)
    finally:
        wanted.over.set()
        await _part(serving)


def _daemon(engine: LocalEngine, config: Config, wanted: _Wanted) -> Daemon:
    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, wanted.end, False)
    return Daemon(
        engine=engine,
        leases=Leases(),
        status=partial(_status, engine, config, time.time()),
        end=partial(_in_loop, loop, wanted.end),
    )


def _serving(
    daemon: Daemon, wanted: _Wanted, slow: Threads, http: socket.socket, guests: socket.socket
) -> list[asyncio.Task[None]]:
    """What serves on each socket; the end of one is the daemon's."""
    web = _Http(_settings(application(daemon, slow=slow)), wanted.over)
    handing_out = Guests(daemon.engine, daemon.leases, slow)
    serving = [asyncio.create_task(web.serve([http])), asyncio.create_task(handing_out.serve(guests))]
    for task in serving:
        task.add_done_callback(lambda _: wanted.end(False))
    return serving


async def _part(serving: list[asyncio.Task[None]]) -> None:
    """Wait for answers on their way, let go of leases, and raise what made one of the two fail."""
    web, handing_out = serving
    handing_out.cancel()
    for outcome in await asyncio.gather(web, handing_out, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


def _in_loop(loop: asyncio.AbstractEventLoop, function: Callable[[bool], None], word: bool) -> None:  # noqa: FBT001
    loop.call_soon_threadsafe(function, word)


async def _end(threads: Threads, engine: LocalEngine, *, again: bool) -> None:
    try:
        await asyncio.wait_for(threads.run(partial(engine.close, again=again)), _ENDING)
    except TimeoutError:
        _log.error("guests have not ended in %.0f s; they end with this process", _ENDING)
    except AegisError as error:
        _log.error("not all ended in order: %s", error)


def _take_up(engine: LocalEngine, over: asyncio.Event) -> None:
    """Go on where the daemon before this one has ended: tasks that it ran have failed, sandboxes may be wanted."""
    engine.tasks.list()
    try:
        engine.ingress.open()
    except AegisError as error:
        _log.error("the router does not run: %s", error)
    for app, fault in engine.serving.faults.items():
        _log.error("app %s is not served as it was: %s", app, fault)
    for sandbox in engine.wanted():
        if over.is_set():
            return
        try:
            engine.start(sandbox, report=lambda _: None)
        except AegisError as error:
            _log.error("sandbox %s was not started again: %s", sandbox, error)


def _settings(answers: object) -> uvicorn.Config:
    return uvicorn.Config(
        answers,  # type: ignore[arg-type]  # an ASGI application is a callable of three
        http=_Trusting,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_PARTING,
        backlog=1024,
    )


def _status(engine: LocalEngine, config: Config, started: float) -> DaemonStatus:
    running = sum(info.state in (State.RUNNING, State.PAUSED) for info in engine.sandboxes())
    states = [task.state for task in engine.tasks.list()]
    return DaemonStatus(
        version=__version__,
        pid=os.getpid(),
        home=str(config.home),
        started=started,
        sandboxes=running,
        running_tasks=states.count(TaskState.RUNNING),
        queued_tasks=states.count(TaskState.QUEUED),
        router=engine.ingress.url,
        router_fault=engine.ingress.fault,
    )
