"""What is QEMU's own between a machine and this process: a port made of a socket pair, and its monitor's words."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO

import attrs

from aegis_sdk.drivers import qmp
from aegis_sdk.drivers.base import Shared
from aegis_sdk.drivers.machine import ProcessMachine, Wires, above_standard

PORT = "aegis"


@attrs.frozen
class QemuLine:
    """Our ends of the port, of the console and of the monitor."""

    port: socket.socket
    _console: socket.socket
    _control: socket.socket
    _sharers: tuple[tuple[Path, BinaryIO], ...]
    _said: qmp.Monitor = attrs.field(factory=lambda: qmp.Monitor(PORT), init=False)
    monitor: str = attrs.field(default="QEMU", init=False)
    halts_in_silence: bool = attrs.field(default=False, init=False)

    @classmethod
    def lay(cls, wires: Wires, shared: Iterable[Shared], undo: ExitStack) -> QemuLine:
        """Socket pairs, and a pipe for each directory *shared*; QEMU's ends, and the sharers', are in *wires*."""
        port, console, control = (wires.join(name, undo) for name in ("port", "console", "monitor"))
        return cls(port, console, control, tuple(_pipes(shared, wires, undo)))

    @property
    def guest_is_off(self) -> bool:
        # Its kernel has switched its devices off, and without ACPI it could never switch off the machine.
        return self._said.port_lost

    def attend(self, machine: ProcessMachine) -> None:
        with suppress(OSError):  # it may have ended already, which the machine notices
            self._control.sendall(qmp.GREETING)
        machine.carry(self.port)
        machine.hear_console(self._console.fileno())
        machine.hear(self._control.fileno(), self._said.feed)
        for directory, pipe in self._sharers:
            machine.lean_on(pipe.fileno(), f"virtiofsd, which shared {directory}, has ended")

    def guest_ended_it(self, code: int) -> bool:  # noqa: ARG002  # QEMU's is 0 for much else
        return self._said.shutdown.startswith("guest-")

    def close(self) -> None:
        self.port.close()
        self._console.close()
        self._control.close()
        for _, pipe in self._sharers:
            pipe.close()


def sharer(number: int) -> str:
    """The name of the descriptor that only the process keeps that shares the directory of this number."""
    return f"sharer{number}"


def _pipes(shared: Iterable[Shared], wires: Wires, undo: ExitStack) -> Iterator[tuple[Path, BinaryIO]]:
    for number, each in enumerate(shared):
        here, there = os.pipe()
        ours = undo.enter_context(open(above_standard(here), "rb", buffering=0))  # noqa: PTH123, SIM115  # on the stack
        wires.give(sharer(number), there, undo)
        yield each.directory, ours
