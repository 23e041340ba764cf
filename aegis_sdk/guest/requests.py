"""What is asked of a harness and what it answers: the only place that knows what their JSON means.

Answers come from a hostile place: each is checked for its form before it becomes a value.
"""

from __future__ import annotations

import base64
import os
import time

import attrs

from aegis_sdk.errors import BootFailed, ProtocolViolation
from aegis_sdk.guest import answers
from aegis_sdk.guest.channel import Channel
from aegis_sdk.model import Command, Exit, SandboxSpec, TerminalSize, printable
from aegis_sdk.mount import Mount

PROTOCOL = 1


@attrs.frozen
class Booted:
    """What a harness says when it is ready: its kernel's release, and its boot phases in seconds."""

    kernel: str
    phases: dict[str, float]


@attrs.frozen
class Started:
    """The command runs; its process number in the guest."""

    pid: int


@attrs.frozen
class NotStarted:
    """The command could not be started: a shell's exit code for that, and why."""

    code: int
    message: str


Event = Started | NotStarted | Exit


def boot(channel: Channel, spec: SandboxSpec, *, hostname: str, cwd: str, deadline: float) -> Booted:
    """Tell the harness how to finish its boot, on the connection that becomes its control connection.

    *cwd* is a directory to be made if it is missing, or empty. The machine shares the directories of the mounts of
    *spec* in their order. BootFailed if a step failed; EOFError if the guest ends; TimeoutError at the deadline
    (monotonic).
    """
    channel.send_line({"call": "control"}, deadline=deadline)
    # It is answered when the guest is up: the time of day that comes next is not as old as its kernel's boot.
    _require_protocol(_ask(channel, "hello", {}, deadline))
    settings = {
        "protocol": PROTOCOL,
        "time_ns": time.time_ns(),
        "entropy": base64.b64encode(os.urandom(32)).decode(),
        "hostname": hostname,
        "writable": spec.writable,
        "cwd": cwd,
        "disk_mib": spec.disk or 0,
        "processes": spec.processes or 0,
        "mounts": [_mount(number, mount) for number, mount in enumerate(spec.mounts)],
    }
    return _booted(_ask(channel, "boot", settings, deadline))


def _mount(number: int, mount: Mount) -> dict[str, object]:
    return {"tag": f"aegis{number}", "target": mount.target, "read_only": mount.read_only}


def set_clock(channel: Channel, *, deadline: float) -> None:
    """Have the guest's time of day be this machine's, on a connection that is used for nothing else.

    EOFError if the guest ends, TimeoutError at the deadline.
    """
    channel.send_line({"call": "control"}, deadline=deadline)
    answer = _answer(channel, "clock", {"time_ns": time.time_ns()}, deadline)
    if "error" in answer:
        raise ProtocolViolation(f"the guest does not set its clock: {_error(answer)}")


def _ask(channel: Channel, method: str, params: dict[str, object], deadline: float) -> dict[str, object]:
    answer = _answer(channel, method, params, deadline)
    if "error" in answer:
        raise BootFailed(f"the guest could not finish its boot: {_error(answer)}")
    return answers.fields(answer.get("result"), "a result")


def _answer(channel: Channel, method: str, params: dict[str, object], deadline: float) -> dict[str, object]:
    channel.send_line({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, deadline=deadline)
    return answers.fields(channel.read_line(deadline=deadline), "an answer")


def _error(answer: dict[str, object]) -> str:
    return answers.text(answers.fields(answer["error"], "an error"), "message")


def _require_protocol(result: dict[str, object]) -> None:
    if (protocol := answers.integer(result, "protocol")) != PROTOCOL:
        raise BootFailed(
            f"the guest's harness speaks protocol {protocol}, this is {PROTOCOL}",
            hint="install Aegis again, so that its parts are of one version",
        )


def _booted(result: dict[str, object]) -> Booted:
    phases = answers.fields(result.get("phases"), "phases")
    if len(phases) > 64:
        raise ProtocolViolation(f"the guest names {len(phases)} phases of its boot")
    return Booted(
        answers.text(result, "kernel"), {printable(name[:64]): answers.seconds(phases, name) for name in phases}
    )


def start(channel: Channel, identity: str, command: Command, *, deadline: float) -> None:
    """Make the connection that of a new process, named *identity*; frames follow.

    InvalidValue if the command is too long, TimeoutError at the deadline.
    """
    channel.send_line(
        {
            "call": "process",
            "time_ns": time.time_ns(),
            "id": identity,
            "argv": list(command.argv),
            "env": dict(command.env),
            "cwd": command.cwd,
            "user": command.user,
            "stdin": command.stdin,
            "tty": command.tty and {"rows": command.tty.rows, "cols": command.tty.cols},
        },
        deadline=deadline,
    )


def signal(channel: Channel, identity: str, number: int, *, deadline: float) -> bool:
    """Send a signal to all of a process's group; whether there was such a running process."""
    return _call(channel, {"call": "signal", "id": identity, "signal": number}, deadline)


def end(channel: Channel, identity: str, grace: float, *, deadline: float) -> bool:
    """SIGTERM, *grace* seconds, SIGKILL for a process and its children; whether it was running."""
    return _call(channel, {"call": "signal", "id": identity, "end": grace}, deadline)


def resize(channel: Channel, identity: str, size: TerminalSize, *, deadline: float) -> bool:
    """Set the size of a process's terminal; whether there was such a running process."""
    return _call(channel, {"call": "resize", "id": identity, "rows": size.rows, "cols": size.cols}, deadline)


def stop(channel: Channel, grace: float, *, deadline: float) -> None:
    """Have the guest end its commands, within *grace* seconds, and then itself; does not wait for that.

    The connection is to be kept until the guest has ended. TimeoutError at the deadline.
    """
    channel.send_line({"call": "stop", "grace": grace}, deadline=deadline)


def event(payload: bytes) -> Event:
    """What a process's event says."""
    words = answers.parsed(payload, "an event")
    match words.get("event"):
        case "started":
            return Started(answers.integer(words, "pid"))
        case "failed":
            return NotStarted(answers.code(words), answers.text(words, "message"))
        case "exited":
            return answers.ending(words)
        case other:
            raise ProtocolViolation(f"the guest sent an unknown event {str(other)[:80]!r}")


def _call(channel: Channel, request: object, deadline: float) -> bool:
    channel.send_line(request, deadline=deadline)
    answer = answers.fields(channel.read_line(deadline=deadline), "an answer")
    if "error" in answer:
        raise ProtocolViolation(f"the guest refused a call: {answers.text(answer, 'error')}")
    return answer.get("found") is True
