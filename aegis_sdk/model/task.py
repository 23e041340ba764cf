"""Tasks: one command in one guest, with a time limit and a terminal state."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping

import attrs

from aegis_sdk.errors import InvalidValue
from aegis_sdk.model.command import Command, TerminalSize
from aegis_sdk.model.fixed import Fixed
from aegis_sdk.model.image import ImageConfig
from aegis_sdk.model.port import Port, exposed
from aegis_sdk.model.sandbox import SandboxSpec

#: Seconds that a task has unless it says otherwise.
TIME_LIMIT = 900.0
_LONGEST = 1 << 20


class TaskState(enum.StrEnum):
    """What a task does; the last four are terminal."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"

    @property
    def terminal(self) -> bool:
        """Whether no other state follows."""
        return self not in (TaskState.QUEUED, TaskState.RUNNING)

    def may_become(self, other: TaskState) -> bool:
        """Whether *other* may follow."""
        return other in _NEXT.get(self, ())


_ENDS = (TaskState.FAILED, TaskState.TIMED_OUT, TaskState.CANCELLED)
_NEXT = {
    TaskState.QUEUED: (TaskState.RUNNING, *_ENDS),
    TaskState.RUNNING: (TaskState.SUCCEEDED, *_ENDS),
}


def _seconds(_: object, __: object, value: float | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise InvalidValue(f"timeout must be seconds, more than 0, or None for no limit; not {value!r}")


@attrs.frozen(kw_only=True)
class TaskSpec:
    """What a new task is to be: *command*, in a guest made as *sandbox* says; without one, the image's own.

    It is ended after *timeout* seconds, None for no limit. With *app*, an ID or a name, it gets the app's secrets as
    environment variables, which *env* overrides, and its workspace. With *attached* it waits for who submitted it, who
    alone can feed it, and is cancelled when that one goes. Its ports *expose* are reached by the router while it runs,
    or, those that are not HTTP, by ports of the engine's machine.
    """

    command: tuple[str, ...] = ()
    sandbox: SandboxSpec = attrs.field(factory=SandboxSpec)
    env: Mapping[str, str] = attrs.field(factory=dict, converter=Fixed, repr=False)
    cwd: str | None = None
    user: str | None = None
    timeout: float | None = attrs.field(default=TIME_LIMIT, validator=_seconds)
    app: str | None = None
    attached: bool = False
    tty: TerminalSize | None = None
    expose: tuple[Port, ...] = attrs.field(default=(), converter=exposed)

    def __attrs_post_init__(self) -> None:
        if self.tty is not None and not self.attached:
            raise InvalidValue("a task has a terminal only while somebody is attached to it")
        if self.sandbox.name is not None or self.sandbox.keep:
            raise InvalidValue("a task's guest has no name of its own, and is never kept")
        command = self.of(ImageConfig(command=("true",)))  # what cannot be meant is refused before anything waits
        if (size := sum(map(len, (*command.argv, *command.env, *command.env.values())))) > _LONGEST:
            raise InvalidValue(
                f"arguments and environment have {size} characters, and no guest takes more than {_LONGEST}",
                hint="give the command its data as a file, or as input",
            )

    def of(self, image: ImageConfig, *, secrets: Mapping[str, str] | None = None) -> Command:
        """The command in an image with these defaults, and with *secrets* in its environment."""
        return Command.of(
            image,
            self.command,
            env={**(secrets or {}), **self.env},
            cwd=self.cwd,
            user=self.user,
            stdin=self.attached,
            tty=self.tty,
        )


@attrs.frozen(kw_only=True)
class TaskInfo:
    """A task, as it was when it was asked for; times in seconds since 1970.

    *exit_code* and *signal* are those of its command, if it ended; *reason* says why it is FAILED, TIMED_OUT or
    CANCELLED; *sandbox* is the name of its guest while it runs, *url* where its HTTP ports are then reached, and
    *addresses* where others are, such as ``{"5432/tcp": "127.0.0.1:15432"}``.
    """

    id: str
    state: TaskState
    command: tuple[str, ...]
    image: str
    app: str | None
    timeout: float | None
    created: float
    started: float | None = None
    ended: float | None = None
    exit_code: int | None = None
    signal: str | None = None
    reason: str = ""
    sandbox: str | None = None
    url: str = ""
    addresses: Mapping[str, str] = attrs.field(factory=dict, converter=Fixed)
