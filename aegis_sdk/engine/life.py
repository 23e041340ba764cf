"""A machine's life after its boot: what it does now, its clock, and its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

import attrs

from aegis_sdk.drivers.base import Machine
from aegis_sdk.engine.roster import Entry, Running
from aegis_sdk.errors import GuestNotResponding
from aegis_sdk.guest import requests
from aegis_sdk.guest.channel import Channel
from aegis_sdk.model import Cause, Ending, SandboxInfo, SandboxSpec, State

_CLOCK_TIMEOUT = 60.0  # all that was sent to a paused guest reaches it first
_CLOCK_ERROR = 1.0
_END_TIMEOUT = 30.0  # on a host that is busy; an end that is waited for is mostly there
_COMMANDS_PART = 0.8  # of the grace is for commands; the guest's own end takes the rest


def info(entry: Entry, addresses: Mapping[str, str]) -> SandboxInfo | None:
    """What a sandbox is now that is reached at *addresses*; None if it has not booted yet."""
    if entry.running:
        return described(entry.running, entry.spec, addresses)
    return entry.info and attrs.evolve(entry.info, network=entry.spec.network)


def described(running: Running, spec: SandboxSpec, addresses: Mapping[str, str]) -> SandboxInfo:
    """What a sandbox that has booted is now, of which *spec* is asked, made of what it was then."""
    machine, booted = running.machine, attrs.evolve(running.booted, network=spec.network)
    if ending := machine.wait(0):
        return attrs.evolve(booted, state=ending.state, pid=None)
    state = State.PAUSED if machine.paused else State.RUNNING
    return attrs.evolve(booted, state=state, memory_used=machine.memory_used(), addresses=addresses)


def mend_clock(machine: Machine) -> None:
    """Have the guest's time go on with ours: in software its own may have stood still."""
    deadline = time.monotonic() + _CLOCK_TIMEOUT
    while _set_clock(machine, deadline) > _CLOCK_ERROR:
        pass  # time went on while this was under way


def _set_clock(machine: Machine, deadline: float) -> float:
    """Seconds that it took at most to reach the guest."""
    asked = time.monotonic()
    control = Channel(machine.dial())
    try:
        requests.set_clock(control, deadline=deadline)
    except TimeoutError as error:
        raise GuestNotResponding(f"the guest has not set its clock for {_CLOCK_TIMEOUT:.0f} s") from error
    except (EOFError, OSError):
        return 0.0  # it has ended
    finally:
        control.close()
    return time.monotonic() - asked


def stop(machine: Machine, grace: float) -> None:
    """End the guest by its owner's will: its commands, then itself, within *grace* seconds; else the machine."""
    machine.retire()
    try:
        if grace and not machine.wait(0):
            _ask_to_end(machine, grace)
    finally:
        end(machine)


def _ask_to_end(machine: Machine, grace: float) -> None:
    deadline = time.monotonic() + grace
    machine.resume()
    channel = Channel(machine.dial())
    try:
        with suppress(OSError):  # a guest that takes no call is ended all the same
            requests.stop(channel, grace * _COMMANDS_PART, deadline=deadline)
            machine.wait(max(0.0, deadline - time.monotonic()))
    finally:
        channel.close()


def end(machine: Machine, cause: Cause = Cause.STOPPED) -> Ending:
    """End the machine at once, for that cause if it has not ended; how it ended."""
    machine.kill(cause)
    if ending := machine.wait(_END_TIMEOUT):
        return ending
    raise GuestNotResponding(f"process {machine.pid} has not ended {_END_TIMEOUT:.0f} s after SIGKILL")


def close(running: Running) -> Ending:
    """End the machine at once, and give back what was held for it; how it ended."""
    try:
        return end(running.machine, Cause.CLOSED)
    finally:
        running.control.close()
        running.image.close()
