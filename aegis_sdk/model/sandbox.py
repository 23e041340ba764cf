"""A sandbox: what is asked for, what it is, and how it ends."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

from aegis_sdk.arguments import flag as _flag
from aegis_sdk.arguments import text as _text
from aegis_sdk.arguments import whole as _whole
from aegis_sdk.model.fixed import Fixed
from aegis_sdk.model.image import ImageConfig, image_reference, pull_policy
from aegis_sdk.model.name import app_name
from aegis_sdk.model.network import Network
from aegis_sdk.model.network import network as _network
from aegis_sdk.mount import Mount, in_order

#: What a harness, a kernel and a shell need to come up and answer (MiB; measured, not guessed).
MINIMUM_MEMORY = 96
#: A shell, a pipe and what they start; and what the kernel can number, but for its own.
MINIMUM_PROCESSES, MAXIMUM_PROCESSES = 16, 32_000
MAXIMUM_CPUS = 16  # the guest kernel's NR_CPUS
_LAST_LINES = 20


@attrs.frozen(kw_only=True)
class SandboxSpec:
    """What a new sandbox is to be; *memory* and *disk* in MiB; *digest* if it must be just that image.

    *disk* is what files may take in it, which are in its memory, *processes* how many may run; None is what the memory
    allows. *network* is what it may reach. *name* is one that no other sandbox of its engine has; with *keep* it
    outlives whoever made it.
    """

    image: str = "base"
    memory: int = 512
    cpus: int = 1
    disk: int | None = None
    processes: int | None = None
    writable: bool = False
    pull: str = "missing"
    digest: str | None = None
    driver: str | None = None
    nested: bool = False
    mounts: tuple[Mount, ...] = attrs.field(default=(), converter=in_order)
    network: Network = attrs.field(factory=Network, converter=_network)
    name: str | None = None
    keep: bool = False

    def __attrs_post_init__(self) -> None:
        if self.name is not None:
            app_name(self.name)
        _whole("memory", self.memory, at_least=MINIMUM_MEMORY, at_most=1 << 24, unit=" MiB")
        _whole("cpus", self.cpus, at_least=1, at_most=MAXIMUM_CPUS)
        if self.disk is not None:
            _whole("disk", self.disk, at_least=1, at_most=self.memory, unit=" MiB, the memory that it is in")
        if self.processes is not None:
            _whole("processes", self.processes, at_least=MINIMUM_PROCESSES, at_most=MAXIMUM_PROCESSES)
        for name, flag in (("writable", self.writable), ("nested", self.nested), ("keep", self.keep)):
            _flag(name, flag)
        for name, word in (("a digest", self.digest), ("a driver's name", self.driver)):
            if word is not None:
                _text(name, word)
        image_reference(self.image)
        pull_policy(self.pull)


class State(enum.StrEnum):
    """What a sandbox does: FAILED is one that ended by neither its owner's will nor its own."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


class Cause(enum.Enum):
    """Why a machine ended."""

    CLOSED = "its sandbox was closed"
    STOPPED = "it was stopped by its owner"
    POWERED_OFF = "the guest powered off or restarted"
    PANICKED = "the guest's kernel panicked"
    OUT_OF_MEMORY = "the guest ran out of memory"
    KILLED = "its virtual machine monitor was killed"
    FAILED = "its virtual machine monitor failed"
    UNRESPONSIVE = "its harness stopped answering"
    VIOLATION = "it broke the protocol"


@attrs.frozen(kw_only=True)
class Ending:
    """How a machine ended, with what it said last on its console."""

    cause: Cause
    detail: str = ""
    console: str = attrs.field(default="", repr=False)

    @property
    def state(self) -> State:
        """What its sandbox is by now."""
        wanted = self.cause in (Cause.CLOSED, Cause.STOPPED, Cause.POWERED_OFF)
        return State.STOPPED if wanted else State.FAILED

    def __str__(self) -> str:
        return f"{self.cause.value}: {self.detail}" if self.detail else self.cause.value

    def last_words(self) -> str:
        """The last lines of the console, to be put behind a message; empty if there were none."""
        lines = [line for line in self.console.splitlines() if line.strip()][-_LAST_LINES:]
        return "".join(f"\n  | {line}" for line in ("last on its console:", *lines)) if lines else ""


@attrs.frozen(kw_only=True)
class SandboxInfo:
    """A sandbox, as it was when it was asked for.

    *driver_reason* says why it is this driver. *phases* are the named steps of its boot, in seconds, in their order.
    *pid* is its monitor's process, None once it has ended; *memory_used* are the bytes of this machine's memory that it
    takes, None also where that is not known. *disk* and *processes* are as they were asked for; *memory* and *disk* are
    in MiB. *created* is when it was made, in seconds since 1970; *network* is what it may reach now; *addresses* are
    where its ports are reached that were exposed: ``{"8000": "http://127.0.0.1:8099/app/sandbox-ID:8000/", "5432/tcp":
    "127.0.0.1:15432"}``.
    """

    id: str
    image: str
    config: ImageConfig = attrs.field(repr=False)
    driver: str
    driver_reason: str
    accelerator: str
    memory: int
    cpus: int
    pid: int | None
    kernel: str
    phases: Mapping[str, float] = attrs.field(converter=Fixed, repr=False)
    created: float
    disk: int | None = None
    processes: int | None = None
    state: State = State.RUNNING
    memory_used: int | None = None
    name: str | None = None
    keep: bool = False
    network: Network = attrs.field(factory=Network)
    addresses: Mapping[str, str] = attrs.field(factory=dict, converter=Fixed)
