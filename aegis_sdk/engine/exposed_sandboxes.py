"""Ports of sandboxes behind the router, each from when it is asked for until it is taken back, or its guest ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import attrs

from aegis_sdk.drivers.base import Machine
from aegis_sdk.errors import InvalidValue, NotServed, SandboxClosed, Unavailable
from aegis_sdk.guest import ports as guest
from aegis_sdk.model import Port
from aegis_sdk.model.port import MAXIMUM_PORTS

if TYPE_CHECKING:
    from aegis_sdk.engine.ingress import Ingress
    from aegis_sdk.routing.base import ServedInstance

_PARTING = 5.0  # for a router that is busy
_GLANCE = 0.5  # after which who attends to a guest sees that nothing of it is exposed any more


@attrs.define(eq=False)
class _Exposed:
    """A machine as a host: it is awake as long as it is there."""

    id: str
    machine: Machine
    ports: dict[str, Port] = attrs.field(factory=dict)  # by their labels
    addresses: Mapping[str, str] = attrs.field(factory=dict)
    watch: threading.Thread | None = None
    over: bool = False

    @property
    def name(self) -> str:
        return f"sandbox-{self.id}"

    def served(self) -> ServedInstance:
        from aegis_sdk.routing.base import ServedInstance  # late, as all that serves

        numbers = tuple(port.number for port in self.ports.values() if port.protocol == "http")
        return ServedInstance(id=self.id, release=self.id, ports=numbers, awake=True)

    def hold(self) -> bool:
        return True

    def let_go(self) -> None:
        """It ends when its owner wants it, whoever uses it."""

    def wake(self) -> None:
        """It is awake, or not there any more; one that its owner has paused answers when that one resumes it."""

    def dial(self, port: int, *, timeout: float) -> socket.socket:
        if self.over:
            raise NotServed(f"the sandbox {self.id} has ended")
        with ExitStack() as undo:
            machine = undo.enter_context(self.machine.dial())
            guest.connect(machine, port, timeout=timeout)
            undo.pop_all()
        return machine


class ExposedSandboxes:
    """Those of one engine, behind its *ingress*, which is made when the first is; any thread may call it."""

    def __init__(self, ingress: Callable[[], Ingress]) -> None:
        self._late = ingress
        self._lock = threading.Lock()
        self._exposed: dict[str, _Exposed] = {}  # by the IDs of their sandboxes

    def expose(self, sandbox: str, machine: Machine, port: Port) -> str:
        """Have *port* of the *machine* of that sandbox be reached until it ends; where that is. PortTaken."""
        with self._lock:
            exposed = self._of(sandbox, machine)
            self._show(exposed, {**exposed.ports, port.label: port})
            return exposed.addresses[port.label]

    def conceal(self, sandbox: str, port: Port) -> None:
        """Have *port* of a sandbox be reached no more; fine if it is not."""
        with self._lock:
            exposed = self._exposed.get(sandbox)
            if exposed and port.label in exposed.ports:
                self._show(exposed, {label: one for label, one in exposed.ports.items() if label != port.label})

    def addresses(self, sandbox: str) -> Mapping[str, str]:
        """Where each port of a sandbox is reached that is exposed."""
        exposed = self._exposed.get(sandbox)
        return exposed.addresses if exposed else {}

    def part(self, sandbox: str) -> None:
        """Return when a sandbox that has ended is reached no more."""
        exposed = self._exposed.get(sandbox)
        # Any thread may remove a sandbox, by a garbage collection: also the one that this has to wait for.
        if exposed and exposed.watch and not self._ingress.is_here:
            exposed.watch.join(_PARTING)

    @property
    def _ingress(self) -> Ingress:
        return self._late()

    def _of(self, sandbox: str, machine: Machine) -> _Exposed:
        """The sandbox as a host, which is watched; of another machine than this it has the ports no more."""
        known = self._exposed.get(sandbox)
        if known and known.machine is not machine:
            self._take_away(known)
            known = None
        if machine.wait(0):
            raise SandboxClosed(f"sandbox {sandbox} has ended")
        if not known:
            known = self._exposed[sandbox] = _Exposed(sandbox, machine)
            known.watch = threading.Thread(
                target=self._attend, args=(known,), name=f"aegis-exposed-{sandbox}", daemon=True
            )
            try:
                known.watch.start()
            except RuntimeError as error:
                del self._exposed[sandbox]
                raise Unavailable(f"sandbox {sandbox} cannot be exposed: {error}") from error
        return known

    def _show(self, exposed: _Exposed, ports: dict[str, Port]) -> None:
        """Have these be its ports; if that fails, all is as it was."""
        if len(ports) > MAXIMUM_PORTS:
            raise InvalidValue(f"sandbox {exposed.id} has {MAXIMUM_PORTS} ports that are exposed, and can have no more")
        before, exposed.ports = exposed.ports, ports
        try:
            exposed.addresses = self._placed(exposed, anew=not before)
        except BaseException:
            exposed.ports = before
            if before:
                self._ingress.changed(exposed.id)
            else:
                self._ingress.take_away(exposed.id)
            raise

    def _placed(self, exposed: _Exposed, *, anew: bool) -> dict[str, str]:
        if not exposed.ports:
            self._ingress.take_away(exposed.id)
            return {}
        if anew:
            self._ingress.open()
            self._ingress.place(exposed.id, exposed.name, (exposed,), task=True)
        else:
            self._ingress.changed(exposed.id)
        raw = self._ingress.expose(exposed.id, tuple(exposed.ports.values()), remembered=False)
        # Each by its number: which is the first changes.
        return {
            label: raw.get(label) or self._ingress.address(f"{exposed.name}:{port.number}")
            for label, port in exposed.ports.items()
        }

    def _attend(self, exposed: _Exposed) -> None:
        while not exposed.over:
            ended = exposed.machine.wait(_GLANCE)
            with self._lock:
                if ended or not exposed.ports:
                    self._take_away(exposed)

    def _take_away(self, exposed: _Exposed) -> None:
        if not exposed.over:
            exposed.over = True
            self._ingress.take_away(exposed.id)
            if self._exposed.get(exposed.id) is exposed:  # and not before, for who waits to see it parted
                del self._exposed[exposed.id]
