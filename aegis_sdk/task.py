"""A command with a guest, a time limit and a terminal state of its own."""

from __future__ import annotations

import builtins
import math
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Self

from aegis_sdk.engine.attempts import events
from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.connect import engine_of_tasks
from aegis_sdk.errors import InvalidValue, TaskNotFound
from aegis_sdk.image import Image
from aegis_sdk.model import (
    TIME_LIMIT,
    Command,
    ImageConfig,
    LogEntry,
    Network,
    NetworkEvent,
    Port,
    SandboxSpec,
    TaskInfo,
    TaskSpec,
    TaskState,
    TerminalSize,
    exposed,
)
from aegis_sdk.mount import Mounts
from aegis_sdk.place import InTask
from aegis_sdk.process import Process, deadline_after

_LONGEST_WAIT = 20.0


class Task:
    """A command that runs, or waits for its turn, in a guest of its own; ``submit`` makes one, ``get`` finds it again.

    It is on record, with what it says, also when this object is gone. A task of the engine in this process ends with
    the process; one of the daemon's does not.
    """

    def __init__(self, engine: Engine, id: str) -> None:
        self.id = id
        self._engine = engine
        self._process: Process | None = None  # of one that was submitted here, attached

    @classmethod
    def submit(
        cls,
        *command: str,
        image: str | Image = "base",
        timeout: float | None = TIME_LIMIT,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        app: str | None = None,
        attached: bool = False,
        tty: bool | tuple[int, int] = False,
        memory: int = 512,
        cpus: int = 1,
        disk: int | None = None,
        processes: int | None = None,
        writable: bool = False,
        pull: str = "missing",
        driver: str | None = None,
        nested: bool = False,
        mounts: Mounts = (),
        network: str | Network = "public",
        expose: Iterable[int | str | Port] = (),
        engine: Engine | None = None,
    ) -> Self:
        """Have *command* run, or the image's own, when its turn comes; it is on record when this returns.

        It is ended *timeout* seconds after it has begun, 15 minutes by default; None is no limit. With *app*, a name or
        an ID, it has that one's secrets in its environment, under *env*, and its workspace at /workspace. With
        *attached* it is talked to by ``process``, at a terminal with *tty*, and cancelled when that is closed; else it
        has no input. While it runs the ports *expose*, such as ``[8000, "5432/tcp"]``, are reached where ``info`` says,
        from when its command listens. The rest is as for ``Sandbox``. AppNotFound; what is wrong with image, guest or
        ports, the task says.
        """
        if not isinstance(env, (Mapping, type(None))):
            raise InvalidValue(f"env must map names to values, not {env!r}")
        engine = engine or (image.engine if isinstance(image, Image) else engine_of_tasks())
        sandbox = SandboxSpec(
            image=image.reference if isinstance(image, Image) else image,
            digest=image.info.digest if isinstance(image, Image) else None,
            memory=memory,
            cpus=cpus,
            disk=disk,
            processes=processes,
            writable=writable,
            pull=pull,
            driver=driver,
            nested=nested,
            mounts=mounts,
            network=network,
        )
        spec = TaskSpec(
            command=command,
            sandbox=sandbox,
            env=env or {},
            cwd=cwd,
            user=user,
            timeout=timeout,
            app=app,
            attached=attached,
            tty=_terminal(tty),
            expose=exposed(expose),
        )
        made = cls(engine, engine.tasks.submit(spec).id)
        if attached:
            made._attach(spec, image)
        return made

    @classmethod
    def get(cls, id: str, *, engine: Engine | None = None) -> Self:
        """The task with that ID, which may be shortened as long as no other begins so; TaskNotFound."""
        engine = engine or engine_of_tasks()
        if not id or "/" in id:  # which leads elsewhere over HTTP
            raise TaskNotFound(f"there is no task {id!r}", hint="`aegis task list` shows those that there are")
        return cls(engine, engine.tasks.get(id).id)

    @classmethod
    def list(cls, *, engine: Engine | None = None) -> builtins.list[Self]:
        """All tasks on record, in the order in which they were submitted; old ones are forgotten after some hundred."""
        engine = engine or engine_of_tasks()
        return [cls(engine, info.id) for info in engine.tasks.list()]

    @property
    def process(self) -> Process:
        """Its command, of one that was submitted attached: read it, feed it, wait for it. TaskFailed has its reason."""
        if not self._process:
            raise InvalidValue(f"task {self.id} was not submitted here with attached=True")
        return self._process

    @property
    def state(self) -> TaskState:
        """What it does now."""
        return self.info().state

    def info(self) -> TaskInfo:
        """What it is, what it does now, and how it ended."""
        return self._engine.tasks.get(self.id)

    def wait(self, timeout: float | None = None) -> TaskInfo:
        """Wait for its end, and say how it ended; TimeoutError after *timeout* seconds, and it runs on."""
        deadline = deadline_after(timeout)
        while True:
            left = math.inf if deadline is None else max(0.0, deadline - time.monotonic())
            info = self._engine.tasks.wait(self.id, timeout=min(left, _LONGEST_WAIT))
            if info.state.terminal:
                return info
            if left <= _LONGEST_WAIT and deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(f"task {self.id} is {info.state} after {timeout} s")

    def logs(self, *, follow: bool = False, since: int = 0, tail: int | None = None) -> Iterator[LogEntry]:
        """What it has said, entry by entry: those after number *since*, and of these the last *tail*.

        With *follow* also what it is still to say, as it comes, to its end.
        """
        return self._engine.tasks.logs(self.id, follow=follow, since=since, tail=tail)

    def network_events(self) -> tuple[NetworkEvent, ...]:
        """What its guest has tried to reach, in order, as its log has it: of what is over."""
        return tuple(events(self.logs()))

    def cancel(self) -> None:
        """Have it end: not at all, if it is QUEUED, else by SIGTERM, and SIGKILL 5 s later. Does not wait for that.

        Fine if it has ended.
        """
        self._engine.tasks.cancel(self.id)

    def __repr__(self) -> str:
        return f"<Task {self.id}>"

    def _attach(self, spec: TaskSpec, image: str | Image) -> None:
        config = image.info.config if isinstance(image, Image) else ImageConfig(command=(f"the command of {image}",))
        try:
            self._process = Process(InTask(self._engine, self.id), spec.of(config), on_end=_ignore)
        except BaseException:
            self.cancel()
            raise


def _terminal(tty: bool | tuple[int, int]) -> TerminalSize | None:  # noqa: FBT001  # as it is for a command
    return Command(argv=("true",), tty=tty).tty


def _ignore(_: Process) -> None:
    """Nobody keeps it but the task."""
