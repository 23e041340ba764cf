"""Everything the system can do."""

from __future__ import annotations

import socket
from typing import Protocol

from aegis_sdk.model import Check, Ending, SandboxInfo, SandboxSpec


class Engine(Protocol):
    """Makes sandboxes and gives connections to them, wherever they run."""

    def create(self, spec: SandboxSpec) -> SandboxInfo:
        """Boot a sandbox; it runs when this returns. Unavailable, ImageNotFound or BootFailed say why not."""

    def dial(self, sandbox: str) -> socket.socket:
        """A new connection to the sandbox's harness; at its end at once if the sandbox has ended."""

    def ending(self, sandbox: str, *, timeout: float) -> Ending | None:
        """How the sandbox ended; None if it has not within *timeout* seconds."""

    def remove(self, sandbox: str) -> None:
        """End the sandbox, and give back all that it used; fine if it has ended or is unknown."""

    def check(self) -> tuple[Check, ...]:
        """What Aegis needs on the machine that the engine uses, each thing with what was found."""
