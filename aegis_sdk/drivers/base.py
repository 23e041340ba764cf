"""What every driver is, and what it gives back."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import attrs

from aegis_sdk.model import Cause, Check, Ending


@attrs.frozen
class Shared:
    """A directory of the host that a guest sees, and whether it can only be read, which the driver enforces."""

    directory: Path
    read_only: bool = True


class Witness(Protocol):
    """Who is told about a machine, in its own thread: what it does may not take long, and may not fail."""

    def said(self, data: bytes) -> None:
        """The console has said that; hostile."""

    def ended(self, ending: Ending) -> None:
        """The machine has ended; nobody knows it yet."""


class Outlet(Protocol):
    """Who takes the connections that a guest opens; called in the machine's thread, so that nothing may take long."""

    def opened(self, connection: socket.socket, reset: Callable[[], object]) -> None:
        """The guest has opened *connection*, which is the outlet's.

        *reset*, from any thread and before it is closed, has its end be a reset, behind what was said on it. Its first
        line, hostile as all that follows, says what it is for.
        """

    def close(self) -> None:
        """The machine has ended, and all its connections."""


@attrs.frozen(kw_only=True)
class BootPlan:
    """What a driver boots: a name for process lists, two read-only disks, MiB of memory, CPUs.

    *nested* if the guest is to have a /dev/kvm that works; the directories *shared* with it have the virtio-fs tags
    aegis0, aegis1, ... What becomes of the machine, *witness* is told; what the guest connects to, *outlet* decides:
    without one a guest may open no connection.
    """

    name: str
    harness: Path
    image: Path
    memory: int
    cpus: int
    nested: bool = False
    shared: tuple[Shared, ...] = ()
    witness: Witness | None = None
    outlet: Outlet | None = None


class Machine(Protocol):
    """A virtual machine, which exists only while this object is not yet ended."""

    @property
    def pid(self) -> int:
        """The process of its monitor."""

    def dial(self) -> socket.socket:
        """A new connection to the harness; what it is for, its first line says.

        The guest takes it when it is up; if the machine has ended, the connection is at its end.
        """

    def pause(self) -> None:
        """Stop its processors; fine if they stand still, or it has ended. What it is sent waits."""

    def resume(self) -> None:
        """Let it go on; its clock is right. Fine if it runs or has ended."""

    @property
    def paused(self) -> bool:
        """Whether its processors stand still."""

    def memory_used(self) -> int | None:
        """Bytes of this machine's memory that its monitor takes; None if that is not known."""

    def logs(self) -> str:
        """The end of what its console has said so far, safe to show."""

    def retire(self) -> None:
        """From here on its end, however it comes, is the will of its owner; does not end it."""

    def kill(self, cause: Cause = Cause.STOPPED) -> None:
        """End the machine at once, paused or not, for that cause; fine if it has ended."""

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

    def why_not(self, *, nested: bool = False, shared: bool = False) -> tuple[str, str]:
        """Why this driver cannot be used here, as far as can be told fast, and what mends it; both empty if it can.

        Asked for a guest that is to be *nested*, or to see directories *shared* with it, as a BootPlan says.
        """

    def check(self) -> tuple[Check, ...]:
        """What this driver needs here, each thing with what was found."""

    def mend(self) -> tuple[str, ...]:
        """Mend what can be mended without the user's hand; what was done, in words. AegisError if that failed."""

    def boot(self, plan: BootPlan) -> Machine:
        """Start a machine; Unavailable says what is missing, BootFailed what went wrong."""
