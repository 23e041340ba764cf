"""A task's guest behind the router: it is never woken from sleep, but waited for, until its command listens."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any, Self

from aegis_sdk.errors import NotServed, ServerFailed
from aegis_sdk.guest import ports as guest
from aegis_sdk.guest.channel import Channel
from aegis_sdk.model import Port
from aegis_sdk.routing.base import ServedInstance

if TYPE_CHECKING:
    from aegis_sdk.engine.local import LocalEngine

_BOOT = 30.0  # that a request waits for it
_INTERVAL, _LISTEN = 0.1, 30.0


class ExposedTask:
    """The guest named *guest*, whose command is the process *task*, as a host of its engine's ingress in a block.

    *where* is what TaskInfo says of its addresses then. Without *ports* it is no host at all.
    """

    def __init__(self, engine: LocalEngine, task: str, guest: str, ports: Sequence[Port]) -> None:
        self._engine, self._task, self._guest, self._ports = engine, task, guest, ports
        self._http = tuple(port.number for port in ports if port.protocol == "http")
        self._begun = threading.Event()
        self._over = False
        self._listens = False  # as it was seen to do once
        self.where: dict[str, Any] = {}  # Any: as the columns of the record

    def __enter__(self) -> Self:
        if self._ports:
            ingress = self._engine.ingress
            with ExitStack() as undo:
                undo.callback(self._end)
                ingress.open()
                ingress.place(self._task, self._guest, (self,), task=True)
                addresses = dict(ingress.expose(self._task, self._ports, remembered=False))
                self.where = {"url": ingress.address(self._guest) if self._http else "", "addresses": addresses}
                undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        if self._ports:
            self._end()

    def begin(self) -> None:
        """Its command runs."""
        self._begun.set()

    def served(self) -> ServedInstance:
        return ServedInstance(id=self._task, release=self._task, ports=self._http, awake=self._listens)

    def hold(self) -> bool:
        return self._listens

    def let_go(self) -> None:
        """It ends when its command does, whoever uses it."""

    def wake(self) -> None:
        """Wait until its first port takes connections; ServerFailed says why that does not happen."""
        if not self._begun.wait(_BOOT):
            raise NotServed(f"the guest of task {self._task} has not booted yet")
        self._check()
        try:
            with closing(Channel(self._engine.dial(self._guest))) as channel:
                guest.ready(channel, self._task, self._ports[0].number, interval=_INTERVAL, timeout=_LISTEN)
        except ServerFailed:
            self._check()
            raise
        except EOFError as error:
            raise NotServed(f"task {self._task} has ended") from error
        self._listens = True

    def dial(self, port: int, *, timeout: float) -> socket.socket:
        self._check()
        with ExitStack() as undo:
            machine = undo.enter_context(self._engine.dial(self._guest))
            guest.connect(machine, port, timeout=timeout)
            undo.pop_all()
        return machine

    def _end(self) -> None:
        self._over = True
        self._begun.set()  # who waits for it waits no more
        self._engine.ingress.take_away(self._task)

    def _check(self) -> None:
        if self._over:
            raise NotServed(f"task {self._task} has ended")
