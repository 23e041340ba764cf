"""Why a connection to a guest has ended."""

from __future__ import annotations

from aegis_sdk.engine.base import Engine
from aegis_sdk.errors import AegisError, GuestDied, ProtocolViolation, SandboxClosed
from aegis_sdk.model import Cause

_ANSWER = 10.0


def why_lost(engine: Engine, sandbox: str, doing: str) -> AegisError:
    """The error for a connection that ended too early, while *doing* something."""
    ending = engine.ending(sandbox, timeout=_ANSWER)
    if ending is None:
        return ProtocolViolation(f"the guest's harness dropped the connection of {doing}")
    if ending.cause is Cause.STOPPED:
        return SandboxClosed(f"the sandbox was closed during {doing}")
    return GuestDied(f"the guest ended during {doing}: {ending}{ending.last_words()}")
