"""An instance whose guests are made of nothing, so that its races can be tried by the thousand."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from aegis_sdk.engine.idleness import Look
from aegis_sdk.engine.instance import Instance
from aegis_sdk.engine.instance_base import End
from aegis_sdk.engine.timer import Timer
from aegis_sdk.model import AppSpec, ReleaseInfo
from aegis_sdk.routing.base import Asleep
from aegis_sdk.store.logs import Log
from aegis_sdk.store.reader import LogReader

SPEC = AppSpec(command=("serve",), expose=(8000,))
NOTHING = Look(cpu=0.0)


@attrs.define(eq=False)
class FakeGuest:
    """A guest that does what a test has *world* say."""

    name: str
    died: Callable[[str], None]
    world: World
    paused: bool = False
    ended: End | None = None
    stopped: bool = False
    over: threading.Event = attrs.field(factory=threading.Event)

    def boot(self) -> None:
        self.world.guests.append(self)
        self.world.gate.wait()
        time.sleep(self.world.pace)
        if self.over.is_set():
            raise self.world.cancelled
        if self.world.refuses:
            raise self.world.refuses

    def await_ready(self) -> None:
        if self.world.unready:
            raise self.world.unready

    def carry(self, *, deadline: float) -> End | None:
        if self.over.wait(max(0.0, deadline - time.monotonic())):
            return self.ended or End("its guest was ended")
        return None

    def look(self) -> Look:
        return self.world.look

    def pause(self) -> None:
        time.sleep(self.world.pace)
        self.paused = True

    def resume(self) -> None:
        time.sleep(self.world.pace)
        if self.ended:
            raise self.world.gone
        self.paused = False

    def dial(self, port: int, *, timeout: float) -> socket.socket:  # noqa: ARG002  # of a seam
        if self.over.is_set():
            raise Asleep
        assert not self.paused, "a guest is dialled that stands still"
        self.world.dialled += 1
        return None  # type: ignore[return-value]  # nobody uses it

    def is_current(self) -> bool:
        return True

    def end(self, grace: float) -> None:  # noqa: ARG002  # of a seam
        self.stopped = True
        self.over.set()

    def exit(self, words: str, *, crashed: bool = True) -> None:
        """Have its server end by itself."""
        self.ended = End(words, crashed)
        self.over.set()


@attrs.define(eq=False)
class World:
    """An instance of fakes, *pace* seconds for each thing that they do, and what happens to them."""

    directory: Path
    spec: AppSpec = SPEC
    pace: float = 0.0
    look: Look = NOTHING
    refuses: Exception | None = None
    unready: Exception | None = None
    cancelled: Exception = attrs.field(factory=lambda: Asleep("the boot was cancelled"))
    gone: Exception = attrs.field(factory=lambda: Asleep("there is nothing left to go on"))
    gate: threading.Event = attrs.field(factory=threading.Event)
    guests: list[FakeGuest] = attrs.field(factory=list)
    dialled: int = 0
    told: list[bool] = attrs.field(factory=list)
    timer: Timer = attrs.field(factory=Timer)
    output: Log = attrs.field(init=False)
    instance: Instance = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.gate.set()
        self.output = Log(self.directory)
        release = ReleaseInfo(id="r1", app="app_1", number=1, label="v1", created=0.0, spec=self.spec)
        self.instance = Instance(
            "i1",
            "i1-1",
            release,
            boot=lambda name, died: FakeGuest(name, died, self),
            log=self.output,
            timer=self.timer,
            changed=lambda: self.told.append(self.instance.served().awake),
        )

    @property
    def log(self) -> str:
        with LogReader(self.directory) as reader:
            return b"".join(entry.data for entry in reader).decode()

    def ask(self) -> None:
        """A request, as the router makes it."""
        awake = self.instance.hold()
        try:
            if not awake:
                self.instance.wake()
            for _ in range(3):
                try:
                    self.instance.dial(8000, timeout=1)
                except Asleep:
                    self.instance.wake()
                else:
                    return
            raise AssertionError("it does not stay awake")
        finally:
            self.instance.let_go()

    def close(self) -> None:
        self.gate.set()
        self.instance.close("the test is over")
        self.timer.close()
        self.output.end()
