"""One task, from its turn in the queue to its end: its guest, its command, and what both say."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from functools import partial
from typing import TYPE_CHECKING

import attrs

from aegis_sdk.engine.attempts import Attempts
from aegis_sdk.engine.booting import Hearers
from aegis_sdk.engine.cancelling import Cancelling
from aegis_sdk.engine.loss import why_lost
from aegis_sdk.engine.tee import Seen, Tee
from aegis_sdk.errors import AegisError
from aegis_sdk.guest import requests
from aegis_sdk.guest.channel import Channel
from aegis_sdk.model import Exit, Progress, TaskSpec, TaskState, signal_name
from aegis_sdk.store.logs import Log

if TYPE_CHECKING:
    from aegis_sdk.engine.local import LocalEngine

_ANSWER = 10.0  # for what a harness does at once, on a host that is busy
_GRACE = 5.0  # between SIGTERM and SIGKILL
#: For a command that was asked to end, with its last words, until its guest goes with it.
_LONGEST_END = _GRACE + 10.0
_MOMENT = 1.0


@attrs.frozen
class Verdict:
    """How a task has ended."""

    state: TaskState
    reason: str = ""
    exit: Exit | None = None


class _Cancelled(AegisError):
    """Somebody has asked for the end of a task whose command does not run yet."""


class Run:
    """Runs a task's command in a guest of its own; nothing of it is left when it returns."""

    def __init__(
        self, engine: LocalEngine, task: str, spec: TaskSpec, *, log: Log, attached: socket.socket | None
    ) -> None:
        self._engine, self._task, self._spec, self._log, self._attached = engine, task, spec, log, attached
        self._tee: Tee | None = None  # until there is a guest
        self._why: Verdict | None = None  # it is to end so, whatever its command says
        self._pulls = False

    @property
    def guest(self) -> str:
        """The name of its guest."""
        return guest_of(self._task)

    def run(self, environment: Mapping[str, str], asked: Cancelling, *, begun: Callable[[], None]) -> Verdict:
        """Run it to its end, with *environment* under its own, listening to who has *asked* for its end.

        *begun* is called when its command runs.
        """
        with ExitStack() as undo:
            undo.callback(self._engine.remove, self.guest)
            try:
                tee, command = self._boot(environment, asked, undo)
                begun()
                return self._carry(tee, asked, command)
            except _Cancelled as cancelled:
                return Verdict(TaskState.CANCELLED, cancelled.message)
            except AegisError as error:
                return self._why or Verdict(TaskState.FAILED, str(error))

    def abandon(self, reason: str) -> None:
        """From any thread: have it end as cancelled, its guest at once."""
        self._why = Verdict(TaskState.CANCELLED, reason)
        self._engine.remove(self.guest)

    def settle(self) -> None:
        """Give who is attached the rest, however long that takes, and hang up."""
        if self._tee:
            self._tee.settle()
        elif self._attached:
            self._attached.close()

    def _boot(self, environment: Mapping[str, str], asked: Cancelling, undo: ExitStack) -> tuple[Tee, str]:
        spec = attrs.evolve(self._spec.sandbox, name=self.guest)
        hearers = Hearers(tell=Attempts(self._log).tell)
        info = self._engine.create(spec, report=partial(self._heard, asked), hearers=hearers)
        if self._pulls:
            self._log.say(f"{info.image} was pulled")
        self._check(asked)
        guest = undo.enter_context(self._engine.dial(self.guest))
        command = self._spec.of(info.config, secrets=environment)
        try:
            requests.start(Channel(guest), self._task, command, deadline=time.monotonic() + _ANSWER)
        except OSError as error:
            raise why_lost(self._engine, self.guest, repr(" ".join(command.argv))) from error
        self._tee = Tee(guest, self._attached, hearer=self._log, asked=asked)
        return self._tee, " ".join(command.argv)

    def _heard(self, asked: Cancelling, progress: Progress) -> None:
        self._check(asked)
        if not self._pulls:
            self._pulls = True
            count = "1 layer" if progress.layers == 1 else f"{progress.layers} layers"
            self._log.say(f"pulling {self._spec.sandbox.image}, {count}")

    def _check(self, asked: Cancelling) -> None:
        if self._why:
            raise _Cancelled(self._why.reason)
        if asked.asked():
            raise _Cancelled("it was cancelled")

    def _carry(self, tee: Tee, asked: Cancelling, command: str) -> Verdict:
        limit = self._spec.timeout
        deadline = None if limit is None else time.monotonic() + limit
        while True:
            match tee.carry(deadline=deadline, listen=self._why is None):
                case Seen.EXITED if tee.exit:
                    return attrs.evolve(self._why or _verdict(tee.exit), exit=tee.exit)
                case Seen.HUNG_UP:
                    return Verdict(TaskState.CANCELLED, "who was attached to it has gone")
                case Seen.ASKED if asked.asked():
                    deadline = self._end(TaskState.CANCELLED, "it was cancelled")
                case Seen.LATE if not self._why:
                    deadline = self._end(TaskState.TIMED_OUT, f"it was ended after {limit:g} s")
                case Seen.LATE if self._why:
                    return self._why
                case Seen.LOST:
                    return self._why or Verdict(
                        TaskState.FAILED, str(why_lost(self._engine, self.guest, repr(command)))
                    )

    def _end(self, state: TaskState, reason: str) -> float:
        """Ask the command to end; until when it has to have done so."""
        self._why = Verdict(state, reason)
        found = False
        with suppress(AegisError, EOFError, OSError), closing(Channel(self._engine.dial(self.guest))) as channel:
            found = requests.end(channel, self._task, _GRACE, deadline=time.monotonic() + _ANSWER)
        # One that is not there has just ended, or was not there yet.
        return time.monotonic() + (_LONGEST_END if found else _MOMENT)


def guest_of(task: str) -> str:
    """The name of a task's guest."""
    return f"task-{task}"


def _verdict(end: Exit) -> Verdict:
    if not end.code:
        return Verdict(TaskState.SUCCEEDED)
    how = f"was ended by {signal_name(end.signal)}" if end.signal else f"failed with exit code {end.code}"
    if end.out_of_memory:
        how += ", because the guest ran out of memory"
    elif end.out_of_processes:
        how += ", because the guest reached its limit of processes"
    return Verdict(TaskState.FAILED, f"its command {how}")
