"""The frozen values that cross a seam, each checked where it is made."""

from __future__ import annotations

import enum
import signal as signals
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import attrs

from aegis_sdk.arguments import text as _text
from aegis_sdk.arguments import whole as _whole
from aegis_sdk.errors import InvalidValue
from aegis_sdk.hints import hint
from aegis_sdk.mount import Mount, in_order

#: What a harness, a kernel and a shell need to come up and answer (MiB; measured, not guessed).
MINIMUM_MEMORY = 96
#: A shell, a pipe and what they start; and what the kernel can number, but for its own.
MINIMUM_PROCESSES, MAXIMUM_PROCESSES = 16, 32_000
PULL_POLICIES = ("always", "missing", "never")
_LAST_LINES = 20
MAXIMUM_CPUS = 16  # the guest kernel's NR_CPUS


class Fixed(dict[str, Any]):  # Any: the field that holds it says of what
    """A mapping that stays as it was made: frozen values that hold one can be compared, hashed, copied and stored."""

    def __hash__(self) -> int:  # type: ignore[override]  # dict has none, because others change
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type[Fixed], tuple[dict[str, Any]]]:
        return Fixed, (dict(self),)

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("this mapping cannot be changed")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


@attrs.frozen(kw_only=True)
class SandboxSpec:
    """What a new sandbox is to be; *memory* and *disk* in MiB; *digest* if it must be just that image.

    *disk* is what files may take in it, which are in its memory, *processes* how many may run; None is what the memory
    allows.
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

    def __attrs_post_init__(self) -> None:
        _whole("memory", self.memory, at_least=MINIMUM_MEMORY, at_most=1 << 24, unit=" MiB")
        _whole("cpus", self.cpus, at_least=1, at_most=MAXIMUM_CPUS)
        if self.disk is not None:
            _whole("disk", self.disk, at_least=1, at_most=self.memory, unit=" MiB, the memory that it is in")
        if self.processes is not None:
            _whole("processes", self.processes, at_least=MINIMUM_PROCESSES, at_most=MAXIMUM_PROCESSES)
        image_reference(self.image)
        pull_policy(self.pull)


def image_reference(reference: str) -> str:
    """*reference*, if it can be one to an image."""
    if not isinstance(reference, str) or not reference:
        raise InvalidValue(f"a reference to an image is text such as 'alpine:3.20', not {reference!r}")
    _text("a reference to an image", reference)
    return reference


def pull_policy(word: str) -> str:
    """*word*, if it says when to ask an image's source: ``always``, if it is ``missing`` here, or ``never``."""
    if word not in PULL_POLICIES:
        raise InvalidValue(f"pull must be one of {', '.join(PULL_POLICIES)}, not {word!r}")
    return word


@attrs.frozen(kw_only=True)
class ImageConfig:
    """What an image says about the commands that run in it: defaults, which callers override."""

    env: Mapping[str, str] = attrs.field(factory=dict, converter=Fixed)
    cwd: str = ""
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Progress:
    """How far one layer of an image is: *step* is ``fetch`` or ``unpack``; *done* and *total* are bytes.

    *total* is None while nobody knows it: what a layer unpacks to is known when it is unpacked. *number* counts the
    image's layers from 1 to *layers*; *layer* is its digest.
    """

    layer: str
    number: int
    layers: int
    step: str
    done: int
    total: int | None


@attrs.frozen(kw_only=True)
class LayerInfo:
    """One layer of an image: a name for what it holds, and how many bytes its source stores for it."""

    digest: str
    size: int


@attrs.frozen(kw_only=True)
class ImageInfo:
    """An image in the cache.

    *pulled* and *used* are times in seconds since 1970; *disk_bytes* is what its disk takes, *layer_bytes* what its
    layers take beside it. Images may share both.
    """

    reference: str
    digest: str
    architecture: str
    config: ImageConfig = attrs.field(repr=False)
    created: str
    layers: tuple[LayerInfo, ...] = attrs.field(repr=False)
    pulled: float
    used: float
    disk_bytes: int
    layer_bytes: int


@attrs.frozen(kw_only=True)
class Pruned:
    """What a pruning removed: images by their references, and how many bytes of disk that freed."""

    images: tuple[str, ...]
    bytes: int


@attrs.frozen(kw_only=True)
class PluginInfo:
    """A plugin: what it provides, where it was loaded from, and what failed, empty if nothing did."""

    name: str
    version: str
    origin: str
    provides: tuple[str, ...] = ()
    error: str = ""


@attrs.frozen
class TerminalSize:
    """How large a terminal is, in characters."""

    rows: int = 24
    cols: int = 80

    def __attrs_post_init__(self) -> None:
        for name, count in (("rows", self.rows), ("cols", self.cols)):
            _whole(name, count, at_least=1, at_most=(1 << 16) - 1)


def _terminal(tty: object) -> TerminalSize | None:
    if isinstance(tty, bool | TerminalSize | None):
        return TerminalSize() if tty is True else tty or None
    if not isinstance(tty, Sequence) or len(tty) != 2:
        raise InvalidValue(f"tty must be True, False or (rows, cols), not {tty!r}")
    return TerminalSize(*tty)


@attrs.frozen(kw_only=True)
class Command:
    """One command to be run in a guest."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(factory=dict, converter=Fixed)
    cwd: str | None = None
    user: str | None = None
    stdin: bool = False
    tty: TerminalSize | None = attrs.field(default=None, converter=_terminal)

    def __attrs_post_init__(self) -> None:
        if not self.argv:
            hint = 'for example: vm.run("echo", "hello")'
            raise InvalidValue("no command was given, and the image has none of its own", hint=hint)
        for word in self.argv:
            _text("an argument", word)
        for name, value in self.env.items():
            _text("the name of an environment variable", name)
            _text(f"the value of {name}", value)
            if not name or "=" in name:
                raise InvalidValue(f"{name!r} cannot be the name of an environment variable")
        if not self.argv[0]:
            raise InvalidValue("the command's name is empty")
        if self.cwd is not None:
            _text("cwd", self.cwd)
        if self.user is not None:
            _text("user", self.user)


@attrs.frozen(kw_only=True)
class Exit:
    """How a command ended: *code* as a shell gives it, *signal* the number that killed it."""

    code: int
    signal: int | None = None
    out_of_memory: bool = False
    out_of_processes: bool = False


@attrs.frozen(kw_only=True)
class Completed:
    """A command that has ended, and all that it wrote; *duration* in seconds."""

    argv: tuple[str, ...]
    exit_code: int
    stdout_bytes: bytes = attrs.field(repr=False)
    stderr_bytes: bytes = attrs.field(repr=False)
    duration: float
    signal: str | None = None
    timed_out: bool = False
    out_of_memory: bool = False
    out_of_processes: bool = False

    @property
    def hint(self) -> str:
        """What to do about it if the command failed for a limit of its guest; empty if that is not to be seen."""
        return hint(
            self.exit_code,
            self.stderr_bytes,
            out_of_memory=self.out_of_memory,
            out_of_processes=self.out_of_processes,
        )

    @property
    def stdout(self) -> str:
        """Standard output as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stderr_bytes.decode("utf-8", "replace")

    @property
    def ok(self) -> bool:
        """Whether the command ended in time with exit code 0."""
        return self.exit_code == 0 and not self.timed_out

    def _repr_html_(self) -> str:
        from aegis_sdk import display

        return display.of_completed(self)


def printable(text: str) -> str:
    """*text* without what could do something to a terminal but print."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)


def signal_name(number: int | None) -> str | None:
    """``SIGTERM`` for 15; a number that has no name here stays a number."""
    if number is None:
        return None
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"


class State(enum.StrEnum):
    """What a sandbox does: FAILED is one that ended by neither its owner's will nor its own."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"


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
    *pid* is its monitor's process; *memory_used* are the bytes of this machine's memory that it takes, None where
    that is not known, and once it has ended. *disk* and *processes* are as they were asked for; *memory* and *disk* are
    in MiB.
    """

    id: str
    image: str
    config: ImageConfig = attrs.field(repr=False)
    driver: str
    driver_reason: str
    accelerator: str
    memory: int
    cpus: int
    pid: int
    kernel: str
    phases: Mapping[str, float] = attrs.field(converter=Fixed, repr=False)
    disk: int | None = None
    processes: int | None = None
    state: State = State.RUNNING
    memory_used: int | None = None


@attrs.frozen(kw_only=True)
class Check:
    """One thing that Aegis needs here: whether it is there, what was seen, and what mends it.

    *required* is false for what a guest can boot without.
    """

    name: str
    ok: bool
    seen: str
    fix: str = ""
    required: bool = True
