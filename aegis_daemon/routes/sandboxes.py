"""Sandboxes."""

from __future__ import annotations

from aegis_daemon.bodies import (
    Address,
    Console,
    Ends,
    Exited,
    Logs,
    NewCommand,
    NewNetwork,
    NewSandbox,
    OnePort,
    Stderr,
    Stdout,
    Stop,
    Wait,
)
from aegis_daemon.calls import Call
from aegis_daemon.execution import Execution
from aegis_daemon.lines import Batches, Values
from aegis_daemon.operations import Operations, Pace
from aegis_sdk.errors import InvalidValue, SandboxNotFound
from aegis_sdk.model import Ending, LogEntry, NetworkEvent, Port, SandboxInfo

operations = Operations()


@operations.serve("GET", "/v1/sandboxes")
def list_(call: Call) -> tuple[SandboxInfo, ...]:
    """All sandboxes, in the order in which they were made."""
    return call.engine.sandboxes()


@operations.serve("POST", "/v1/sandboxes", pace=Pace.REPORTS, status=201)
def create(call: Call, body: NewSandbox) -> SandboxInfo:
    """Boot a sandbox; it runs when this is answered. It ends with its lease, unless it is kept."""
    if not (body.keep or body.lease):
        raise InvalidValue("a sandbox needs a lease, or to be kept", hint="ask the socket guests.sock for a lease")
    if body.lease:
        call.daemon.leases.check(body.lease)
    info = call.engine.create(body.spec, report=call.report)
    if body.lease and not body.keep:
        call.daemon.leases.hang(body.lease, info.id, lambda: call.engine.remove(info.id))
    if call.gone.is_set():  # nobody knows of it
        call.engine.remove(info.id)
        call.daemon.leases.forget(info.id)
    call.check()
    return info


@operations.serve("GET", "/v1/sandboxes/{id}", pace=Pace.SLOW)
def get(call: Call, id: str) -> SandboxInfo:
    """What a sandbox is now, also when it has ended."""
    if info := call.engine.info(id):
        return info
    raise _unknown(id)


@operations.serve("DELETE", "/v1/sandboxes/{id}", pace=Pace.SLOW)
def remove(call: Call, id: str) -> Ends:
    """End a sandbox at once, and forget it; fine if it is unknown."""
    info = call.engine.info(id)
    ending = call.engine.remove(id)
    call.daemon.leases.forget(info.id if info else id)
    return Ends(ending=ending)


@operations.serve("POST", "/v1/sandboxes/{id}/start", pace=Pace.REPORTS)
def start(call: Call, id: str) -> SandboxInfo:
    """Boot a sandbox again that has ended; fine if it runs. What was in its memory is gone."""
    return call.engine.start(id, report=call.report)


@operations.serve("POST", "/v1/sandboxes/{id}/pause", pace=Pace.SLOW)
def pause(call: Call, id: str) -> None:
    """Stop its processors; what it is sent waits."""
    call.engine.pause(id)


@operations.serve("POST", "/v1/sandboxes/{id}/resume", pace=Pace.SLOW)
def resume(call: Call, id: str) -> None:
    """Let it go on, its clock right."""
    call.engine.resume(id)


@operations.serve("POST", "/v1/sandboxes/{id}/stop", pace=Pace.SLOW)
def stop(call: Call, id: str, body: Stop) -> None:
    """End it: SIGTERM for all its commands, then it powers off; when the grace is over it is killed."""
    call.engine.stop(id, grace=body.grace)


@operations.serve("POST", "/v1/sandboxes/{id}/ports", pace=Pace.SLOW)
def expose(call: Call, id: str, body: Port) -> Address:
    """Have a port of it be reached from this machine until it ends: HTTP by the router, else by a local port."""
    return Address(address=call.engine.expose(id, body))


@operations.serve("DELETE", "/v1/sandboxes/{id}/ports", pace=Pace.SLOW)
def conceal(call: Call, id: str, query: OnePort) -> None:
    """Have a port of it be reached no more; fine if it is not."""
    call.engine.conceal(id, Port(query.number, query.protocol))


@operations.serve("GET", "/v1/sandboxes/{id}/ending", pace=Pace.SLOW)
def ending(call: Call, id: str, query: Wait) -> Ends:
    """How it ended, or null when the time is over and it has not."""

    def look(left: float) -> Ending | None:
        return call.engine.ending(id, timeout=left)

    return Ends(ending=call.wait(query.timeout, look, done=lambda ending: ending is not None))


@operations.serve("GET", "/v1/sandboxes/{id}/console")
def console(call: Call, id: str) -> Console:
    """The end of what its console has said, at most 64 KiB."""
    text = call.engine.logs(id)
    if text is None:
        raise _unknown(id)
    return Console(text=text)


@operations.serve("GET", "/v1/sandboxes/{id}/logs", pace=Pace.LINES)
def logs(call: Call, id: str, query: Logs) -> Batches[LogEntry]:
    """Its log, an entry a line; with follow until it has ended, else what is there."""
    return call.engine.sandbox_reader(id, follow=query.follow, since=query.since, tail=query.tail)


@operations.serve("GET", "/v1/sandboxes/{id}/network/events")
def network_events(call: Call, id: str) -> tuple[NetworkEvent, ...]:
    """What it has tried to reach, also when it has ended: of what is over, the last thousand."""
    return call.engine.network_events(id)


@operations.serve("PUT", "/v1/sandboxes/{id}/network")
def update_network(call: Call, id: str, body: NewNetwork) -> SandboxInfo:
    """Have another network decide what it may reach, from here on and after its next boots."""
    return call.engine.update_network(id, body.network)


@operations.serve("POST", "/v1/sandboxes/{id}/exec", pace=Pace.LINES)
def run(call: Call, id: str, body: NewCommand) -> Values[Stdout | Stderr | Exited]:
    """Run a command in it: its output in lines as it comes, and last how it ended. Who hangs up ends the command."""
    return Execution(call.engine, id, body)


def _unknown(sandbox: str) -> SandboxNotFound:
    return SandboxNotFound(f"there is no sandbox {sandbox}", hint="`aegis sandbox list` shows them")
