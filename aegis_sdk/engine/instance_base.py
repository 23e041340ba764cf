"""What an instance asks of its guest, whatever that is made of."""

from __future__ import annotations

import socket
from typing import Protocol

import attrs

from aegis_sdk.engine.idleness import Look


@attrs.frozen
class End:
    """How a server, or its guest, has ended; *crashed* if that was not its own will. *said* is what it said last."""

    words: str
    crashed: bool = True
    said: str = ""


class Guest(Protocol):
    """A guest with a server in it: one boot of an instance. AegisError from all that takes part in it."""

    @property
    def name(self) -> str:
        """What its engine calls its sandbox."""

    def boot(self) -> None:
        """Boot it, and start its server."""

    def await_ready(self) -> None:
        """Return when the server takes connections; ServerFailed."""

    def carry(self, *, deadline: float) -> End | None:
        """Write down what the server says until then, or until it ends."""

    def look(self) -> Look:
        """What goes on in it."""

    def pause(self) -> None:
        """Have it stand still."""

    def resume(self) -> None:
        """Have it go on; ServerFailed if there is nothing left that could."""

    def dial(self, port: int, *, timeout: float) -> socket.socket:
        """A connection to one of its ports; Asleep if it has ended."""

    def is_current(self) -> bool:
        """Whether a boot would give it the same secrets now."""

    def end(self, grace: float) -> None:
        """End it, its server with so many seconds to do so by itself; fine if it has ended, or never began."""
