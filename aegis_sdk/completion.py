"""A command on its way to its end: who hears what it writes meanwhile, and what it leaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from aegis_sdk.errors import CommandFailed, CommandTimedOut, GuestNotResponding
from aegis_sdk.guest.channel import Kind
from aegis_sdk.guest.conversation import Conversation
from aegis_sdk.model import Completed, printable, signal_name
from aegis_sdk.output import Listener, Tell

#: Seconds that a command has between SIGTERM and SIGKILL, and then has to be gone, on a host that is busy.
_LONGEST_END = 15.0
_LAST_LINES = 10


Listeners = dict[Kind, Listener]


def listeners(*, on_stdout: Tell | None, on_stderr: Tell | None) -> Listeners:
    """Who hears which stream; InvalidValue if that is no function."""
    tells = {Kind.STDOUT: on_stdout, Kind.STDERR: on_stderr}
    return {kind: Listener(tell) for kind, tell in tells.items() if tell is not None}


class Until(Protocol):
    """Reads until something is so; false at the deadline (monotonic)."""

    def __call__(self, done: Callable[[], bool], *, deadline: float | None) -> bool: ...


class Completion:
    """Runs a command to its end, step by step: both faces tell what came in their own way."""

    def __init__(
        self,
        conversation: Conversation,
        *,
        argv: tuple[str, ...],
        began: float,
        deadline: float | None,
        until: Until,
        end: Callable[[], None],
        heard_by: Listeners,
    ) -> None:
        self._conversation, self._until, self._end = conversation, until, end
        self._argv, self._began, self._deadline = argv, began, deadline
        self._listeners = heard_by
        self._untold = list(heard_by.values())  # those who have not heard the last
        self._timed_out = False
        self._told_at = time.monotonic()

    def next(self) -> tuple[Tell, str] | None:
        """Who is to be told what; None when the command has ended, and there is nothing more to tell.

        GuestNotResponding if it was ended and is still there; GuestDied if the guest ends first.
        """
        if self._timed_out and self._deadline:
            self._deadline += time.monotonic() - self._told_at  # only the guest's own time counts
        told = self._next()
        self._told_at = time.monotonic()
        return told

    def completed(self) -> Completed:
        """What the command left, which has ended."""
        end = self._conversation.exit
        if end is None:
            raise RuntimeError("the command runs")
        return Completed(
            argv=self._argv,
            exit_code=end.code,
            stdout_bytes=self._all(Kind.STDOUT),
            stderr_bytes=self._all(Kind.STDERR),
            duration=time.monotonic() - self._began,
            signal=signal_name(end.signal),
            timed_out=self._timed_out,
            out_of_memory=end.out_of_memory,
            out_of_processes=end.out_of_processes,
        )

    def _all(self, kind: Kind) -> bytes:
        listener = self._listeners.get(kind)
        return listener.kept() if listener else self._conversation.gather(kind)

    def _next(self) -> tuple[Tell, str] | None:
        while True:
            if self._over():
                self._time_out()
            if told := self._heard():
                return told
            if self._ended():
                return self._last()
            self._until(self._anything, deadline=self._deadline)

    def _heard(self) -> tuple[Tell, str] | None:
        for kind, listener in self._listeners.items():
            while piece := self._conversation.take(kind):
                if text := listener.text(piece):
                    return listener.tell, text
        return None

    def _last(self) -> tuple[Tell, str] | None:
        while self._untold:
            listener = self._untold.pop(0)
            if text := listener.last():
                return listener.tell, text
        return None

    def _anything(self) -> bool:
        return self._ended() or self._conversation.has(*self._listeners)

    def _ended(self) -> bool:
        return self._conversation.exit is not None

    def _over(self) -> bool:
        """Whether time is up; a command that has ended meanwhile is seen."""
        if self._ended() or self._deadline is None or time.monotonic() < self._deadline:
            return False
        return not self._until(self._ended, deadline=self._deadline)

    def _time_out(self) -> None:
        if self._timed_out:
            command = " ".join(self._argv)
            raise GuestNotResponding(f"{command!r} was to end when its time was up, and its sandbox does not answer")
        self._timed_out = True
        self._end()
        self._deadline = time.monotonic() + _LONGEST_END


def checked(completed: Completed) -> Completed:
    """*completed*, if the command went well; else CommandFailed or CommandTimedOut."""
    if completed.ok:
        return completed
    command = " ".join(completed.argv)
    last = "".join(f"\n  | {line}" for line in printable(completed.stderr).splitlines()[-_LAST_LINES:])
    if completed.timed_out:
        raise CommandTimedOut(f"{command!r} was ended after {completed.duration:.1f} s{last}", result=completed)
    how = f"was ended by {completed.signal}" if completed.signal else f"failed with exit code {completed.exit_code}"
    if completed.out_of_memory:
        how += ", because the guest ran out of memory"
    elif completed.out_of_processes:
        how += ", because the guest reached its limit of processes"
    raise CommandFailed(f"{command!r} {how}{last}", hint=completed.hint, result=completed)
