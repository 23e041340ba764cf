"""The daemon itself, and the machine that it runs on."""

from __future__ import annotations

from aegis_daemon.bodies import End
from aegis_daemon.calls import Call
from aegis_daemon.operations import Operations, Pace
from aegis_sdk.model import Check, DaemonStatus, PluginInfo

operations = Operations()


@operations.serve("GET", "/v1/status")
def status(call: Call) -> DaemonStatus:
    """How the daemon is."""
    return call.daemon.status()


@operations.serve("POST", "/v1/end")
def end(call: Call, body: End) -> None:
    """Have the daemon end, with all that it runs; it has when nobody holds the lock on its home's aegisd.lock."""
    call.daemon.end(body.keep)


@operations.serve("GET", "/v1/plugins", pace=Pace.SLOW)
def plugins(call: Call) -> tuple[PluginInfo, ...]:
    """What is built in and installed, in the order in which it is asked."""
    return call.engine.plugins()


@operations.serve("GET", "/v1/checks", pace=Pace.SLOW)
def checks(call: Call) -> tuple[Check, ...]:
    """What Aegis needs here, each thing with what was found."""
    return call.engine.check()


@operations.serve("POST", "/v1/mend", pace=Pace.SLOW)
def mend(call: Call) -> tuple[str, ...]:
    """Mend what needs no hand of the user's; what was done, each thing in words."""
    return call.engine.mend()
