"""A boot, step by step, each timed: what the driver is told, and what the harness."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from aegis_sdk.drivers.base import BootPlan, Machine, Outlet, Shared, Witness
from aegis_sdk.drivers.choice import Choice
from aegis_sdk.engine.roster import Entry
from aegis_sdk.errors import AegisError, BootFailed, BootTimedOut, InvalidValue
from aegis_sdk.guest import requests
from aegis_sdk.guest.channel import Channel
from aegis_sdk.model import Cause, Ending, ImageConfig, SandboxInfo, SandboxSpec
from aegis_sdk.mount import Mount

_BOOT_TIMEOUT = 30.0
_END_TIMEOUT = 30.0


@attrs.define
class Phases:
    """The named steps of a boot with their seconds, in their order."""

    seconds: dict[str, float] = attrs.field(factory=dict)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start

    def split(self, name: str, parts: dict[str, float]) -> None:
        """Take *parts*, which the guest measured, out of phase *name* and put them behind it."""
        self.seconds[name] = max(0.0, self.seconds[name] - sum(parts.values()))
        self.seconds |= {f"harness {part}": seconds for part, seconds in parts.items()}


def shared(mount: Mount) -> Shared:
    """Where *mount*'s source is for every process: what is below /proc/self is another directory for each."""
    missing = f"there is no directory {mount.source!r} to be mounted on {mount.target}"
    try:
        real = Path(os.path.realpath(mount.source, strict=True))
        if not (real.is_dir() and real.samefile(mount.source)):
            raise InvalidValue(missing)
    except OSError as error:
        raise InvalidValue(f"{missing}: {error.strerror}") from error
    if not os.access(real, os.R_OK | os.X_OK):
        raise InvalidValue(f"this user may not read the directory {mount.source!r}")
    if not (mount.read_only or os.access(real, os.W_OK)):
        raise InvalidValue(
            f"this user may not write to the directory {mount.source!r}", hint="mount it with read_only=True"
        )
    return Shared(real, mount.read_only)


def plan(
    identity: str,
    spec: SandboxSpec,
    shared: tuple[Shared, ...],
    *,
    harness: Path,
    image: Path,
    witness: Witness | None,
    outlet: Outlet | None,
) -> BootPlan:
    """What the driver is to boot."""
    return BootPlan(
        name=identity,
        harness=harness,
        image=image,
        memory=spec.memory,
        cpus=spec.cpus,
        nested=spec.nested,
        shared=shared,
        witness=witness,
        outlet=outlet,
    )


def described(
    entry: Entry,
    choice: Choice,
    machine: Machine,
    *,
    config: ImageConfig,
    booted: requests.Booted,
    phases: Phases,
) -> SandboxInfo:
    """A sandbox that has just booted, of an image with that *config*."""
    spec = entry.spec
    return SandboxInfo(
        id=entry.id,
        image=spec.image,
        config=config,
        driver=choice.driver.name,
        driver_reason=choice.reason,
        accelerator=choice.driver.accelerator,
        memory=spec.memory,
        cpus=spec.cpus,
        disk=spec.disk,
        processes=spec.processes,
        pid=machine.pid,
        kernel=booted.kernel,
        phases=phases.seconds,
        created=entry.created,
        name=spec.name,
        keep=spec.keep,
        network=spec.network,
    )


def finish(machine: Machine, control: Channel, spec: SandboxSpec, cwd: str) -> requests.Booted:
    """Have the harness finish the boot; BootFailed says which step went wrong."""
    deadline = time.monotonic() + _BOOT_TIMEOUT
    try:
        return requests.boot(control, spec, hostname="aegis", cwd=cwd, deadline=deadline)
    except TimeoutError as error:
        machine.kill()
        ending = machine.wait(_END_TIMEOUT) or Ending(cause=Cause.UNRESPONSIVE)
        message = f"the guest's harness did not answer within {_BOOT_TIMEOUT:.0f} s"
        raise BootTimedOut(message + ending.last_words(), hint=_memory_hint(ending, spec)) from error
    except (EOFError, OSError) as error:
        ending = machine.wait(_END_TIMEOUT) or Ending(cause=Cause.UNRESPONSIVE)
        message = f"the guest ended before its harness was ready: {ending}"
        raise BootFailed(message + ending.last_words(), hint=_memory_hint(ending, spec)) from error


def _memory_hint(ending: Ending, spec: SandboxSpec) -> str:
    words = f"{ending.detail} {ending.console}".lower()
    if "memory" not in words:
        return ""
    if ending.cause is Cause.FAILED:
        return f"this machine may not have {spec.memory} MiB to give; ask for less memory"
    return f"{spec.memory} MiB may be too little; ask for more memory"


@contextmanager
def starting() -> Iterator[None]:
    """Have what the system refuses while a monitor is started be a failed boot."""
    try:
        yield
    except AegisError:
        raise
    except OSError as error:
        raise BootFailed(f"the guest's monitor could not be started: {error}") from error
