"""What every driver is, and what it gives back."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Protocol

import attrs

from aegis_sdk.model import Check, Ending


@attrs.frozen(kw_only=True)
class BootPlan:
    """What a driver boots: a name for process lists, two read-only disks, MiB of memory, CPUs."""

    name: str
    harness: Path
    image: Path
    memory: int
    cpus: int


class Machine(Protocol):
    """A virtual machine, which exists only while this object is not yet ended."""

    @property
    def pid(self) -> int:
        """The process of its monitor."""

    def dial(self) -> socket.socket:
        """A new connection to the harness; what it is for, its first line says.

        The guest takes it when it is up; if the machine has ended, the connection is at its end.
        """

    def kill(self) -> None:
        """End the machine at once; fine if it has ended."""

    def wait(self, timeout: float | None = None) -> Ending | None:
        """How the machine ended; None if it has not after *timeout* seconds."""


class Driver(Protocol):
    """One way to boot a microVM."""

    @property
    def name(self) -> str:
        """The word that chooses this driver."""

    @property
    def accelerator(self) -> str:
        """What runs the guest's instructions here: kvm, hvf or tcg."""

    def check(self) -> tuple[Check, ...]:
        """What this driver needs here, each thing with what was found."""

    def boot(self, plan: BootPlan) -> Machine:
        """Start a machine; Unavailable says what is missing, BootFailed what went wrong."""
