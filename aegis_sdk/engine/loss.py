"""Why a connection to a guest has ended."""

from __future__ import annotations

from aegis_sdk.engine.base import Engine
from aegis_sdk.errors import AegisError, GuestDied, ProtocolViolation, SandboxClosed
from aegis_sdk.model import Cause

_ANSWER = 10.0  # seconds


def why_lost(engine: Engine, sandbox: str, subject: str) -> AegisError:
    """The error for a connection that ended while *subject* ran, which it was for."""
    ending = engine.ending(sandbox, timeout=_ANSWER)
    if ending is None:
        return ProtocolViolation(f"the guest's harness dropped the connection of {subject}")
    if ending.cause is Cause.CLOSED:
        return SandboxClosed(f"the sandbox was closed while {subject} ran")
    return GuestDied(f"the guest ended while {subject} ran: {ending}{ending.last_words()}")
