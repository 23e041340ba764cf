"""A command that runs in a sandbox."""

from __future__ import annotations

import math
import signal as signals
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Literal, NoReturn, Self

from aegis_sdk.completion import Completion, Listeners
from aegis_sdk.errors import (
    GuestNotResponding,
    InputClosed,
    InvalidValue,
    ProtocolViolation,
    SandboxClosed,
)
from aegis_sdk.guest import requests
from aegis_sdk.guest.channel import Channel, Kind
from aegis_sdk.guest.conversation import Conversation
from aegis_sdk.model import Command, Completed, Exit, TerminalSize, signal_name
from aegis_sdk.output import Output
from aegis_sdk.place import Place

StreamName = Literal["stdout", "stderr"]

_GRACE = 5.0  # between SIGTERM and SIGKILL
_LAST_SIGNAL = 64
_LONGEST_GRACE = 3600
_ANSWER = 10.0  # for what a harness does at once, on a host that is busy
_NAMES: dict[Kind, StreamName] = {Kind.STDOUT: "stdout", Kind.STDERR: "stderr"}


class Process:
    """A running command: read its output, feed it, signal it, wait for it.

    Nothing is lost when nobody reads: the command then waits, alone. Several threads may use one process, but no forked
    child of the one that started it. Closing it, or leaving its ``with`` block, ends the command and its children, and
    cancels the task, if it is one's.
    """

    def __init__(self, place: Place, command: Command, *, on_end: Callable[[Process], None]) -> None:
        self.argv = command.argv
        self._place, self._on_end = place, on_end
        self._takes_input, self._tty = command.stdin or command.tty is not None, command.tty
        self._closed = False
        self._started_at = time.monotonic()
        try:
            self._conversation = Conversation(place.begin(command))
        except (GuestNotResponding, SandboxClosed):
            raise
        except OSError:
            self._raise_lost()
        self.stdout = Output(lambda: self._next(Kind.STDOUT)[1])
        self.stderr = Output(lambda: self._next(Kind.STDERR)[1])

    @property
    def pid(self) -> int | None:
        """Its process number in the guest; None if it could not be started."""
        self._until(lambda: self._conversation.begun)
        return self._conversation.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, 128 + N after signal N; None while it runs."""
        end = self._end(deadline=0.0)
        return end.code if end else None

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed it, such as ``SIGTERM``; None if none did, or none yet."""
        return signal_name(self._conversation.exit.signal) if self._conversation.exit else None

    @property
    def out_of_memory(self) -> bool:
        """Whether it was killed because the guest had no more memory."""
        return bool(self._conversation.exit and self._conversation.exit.out_of_memory)

    @property
    def out_of_processes(self) -> bool:
        """Whether it was refused a process because there were too many in the guest; known when it has ended."""
        return bool(self._conversation.exit and self._conversation.exit.out_of_processes)

    def output(self, timeout: float | None = None) -> Iterator[tuple[StreamName, bytes]]:
        """Both streams, piece by piece as they come, each with the name of its stream.

        TimeoutError when they are not at their end after *timeout* seconds; the command runs on.
        """
        deadline = deadline_after(timeout)
        while deadline is None or time.monotonic() < deadline:
            kind, piece = self._next(Kind.STDOUT, Kind.STDERR, deadline=deadline)
            if not piece:
                return
            yield _NAMES[kind], piece
        raise TimeoutError(f"{self} runs on after {timeout} s")

    def write(self, data: bytes | str) -> None:
        """Feed its standard input, waiting as long as it does not read; InputClosed if it takes no more."""
        if raw := to_bytes(data):
            self._send(raw)

    def close_stdin(self) -> None:
        """End its standard input, at a terminal by Ctrl-D; fine if it is closed or the command has ended."""
        if self._takes_input:
            with suppress(InputClosed):
                self._send(b"")
            self._takes_input = False

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; its exit code. TimeoutError after *timeout* seconds, and it runs on."""
        end = self._end(deadline_after(timeout))
        if end is None:
            raise TimeoutError(f"{self} runs on after {timeout} s")
        return end.code

    def kill(self, signal: int | str = signals.SIGKILL) -> None:
        """Send *signal*, a number or a name, to it and its process group; fine if it has ended."""
        number = _signal_number(signal)
        self._ask(lambda channel, deadline: requests.signal(channel, self._place.identity, number, deadline=deadline))

    def end(self, grace: float = _GRACE) -> None:
        """SIGTERM, and SIGKILL *grace* seconds later, to it and all its children; does not wait for the end."""
        seconds = seconds_of_grace(grace)
        self._ask(lambda channel, deadline: requests.end(channel, self._place.identity, seconds, deadline=deadline))

    def resize(self, rows: int, cols: int) -> None:
        """Tell it that its terminal has another size, in characters; fine if it has ended."""
        size = TerminalSize(rows, cols)
        if self._tty is None:
            raise InvalidValue(f"{self} has no terminal to be resized", hint="start it with tty=True")
        self._ask(lambda channel, deadline: requests.resize(channel, self._place.identity, size, deadline=deadline))

    def complete(
        self, *, input: bytes | str | None = None, timeout: float | None = None, heard_by: Listeners | None = None
    ) -> Completed:
        """Feed it *input*, gather all its output, and wait; it is ended when *timeout* seconds are over.

        GuestNotResponding if it then does not end; GuestDied if the guest ends first.
        """
        completion = self.completion(input=input, timeout=timeout, heard_by=heard_by or {})
        for tell, text in iter(completion.next, None):
            tell(text)
        return completion.completed()

    def completion(self, *, input: bytes | str | None, timeout: float | None, heard_by: Listeners) -> Completion:
        """The same step by step, for who tells listeners in a way of their own."""
        if self._takes_input and input is not None:
            self._conversation.feed(to_bytes(input))
        return Completion(
            self._conversation,
            argv=self.argv,
            began=self._started_at,
            deadline=deadline_after(timeout),
            until=partial(self._until, bounded=False),
            end=self.end,
            heard_by=heard_by,
        )

    def close(self) -> None:
        """End it if it runs, and give its connection back; whoever waits for it gets SandboxClosed."""
        self._closed = True
        self._conversation.hang_up()
        self._on_end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        end = self._conversation.exit
        state = f"exit_code={end.code}" if end else "closed" if self._closed else "running"
        return f"<Process {' '.join(self.argv)!r} {state}>"

    def _repr_html_(self) -> str:
        from aegis_sdk import display

        return display.of_process(self.argv, self._conversation.exit, self.signal, closed=self._closed)

    def _ended(self) -> bool:
        return self._conversation.exit is not None

    def _end(self, deadline: float | None, *, bounded: bool = True) -> Exit | None:
        self._until(self._ended, deadline=deadline, bounded=bounded)
        return self._conversation.exit

    def _next(self, *kinds: Kind, deadline: float | None = None) -> tuple[Kind, bytes]:
        """The next piece of one of the streams; empty at their end."""
        if not self._until(lambda: self._conversation.has(*kinds) or self._ended(), deadline=deadline):
            raise TimeoutError(f"{self} runs on")
        for kind in kinds:
            if piece := self._conversation.take(kind):
                return kind, piece
        return kinds[0], b""

    def _until(self, done: Callable[[], bool], *, deadline: float | None = None, bounded: bool = True) -> bool:
        try:
            reached = self._conversation.until(done, deadline=deadline, bounded=bounded)
        except EOFError:
            self._raise_lost()
        except ProtocolViolation:
            self._place.condemn()
            raise
        if self._ended() and not self._closed:
            self.close()
        return reached

    def _send(self, data: bytes) -> None:
        if not self._takes_input:
            raise InputClosed(
                f"{self} has no standard input", hint="start it with stdin=True, and write before close_stdin()"
            )
        try:
            self._conversation.write(data)
        except OSError as error:
            self._until(self._ended, deadline=deadline_after(_ANSWER))  # a guest that died says so here
            raise InputClosed(f"{self} takes no more input") from error

    def _ask(self, request: Callable[[Channel, float], bool]) -> None:
        # Before it is known to have begun, the request could overtake it.
        if not self._until(lambda: self._conversation.begun, deadline=deadline_after(_ANSWER), bounded=False):
            raise GuestNotResponding(f"the sandbox of {self} has not answered for {_ANSWER:.0f} s")
        if self._ended():
            return
        channel = Channel(self._place.dial())
        try:
            request(channel, time.monotonic() + _ANSWER)
        except TimeoutError as error:
            raise GuestNotResponding(f"the sandbox of {self} has not answered for {_ANSWER:.0f} s") from error
        except (EOFError, OSError):
            self._raise_lost()
        except ProtocolViolation:
            self._place.condemn()
            raise
        finally:
            channel.close()

    def _raise_lost(self) -> NoReturn:
        """Say why the connection is gone."""
        if self._closed:
            raise SandboxClosed(f"{' '.join(self.argv)!r} was closed while somebody waited for it")
        raise self._place.lost(" ".join(self.argv))


def deadline_after(timeout: float | None) -> float | None:
    """The monotonic time when *timeout* seconds are over; None for no limit. InvalidValue unless it is positive."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout > 0:
        raise InvalidValue(f"timeout must be seconds, more than 0, or None for no limit; not {timeout!r}")
    return None if timeout == math.inf else time.monotonic() + timeout


def seconds_of_grace(grace: float) -> float:
    """*grace*, if it is a time between SIGTERM and SIGKILL that can be meant."""
    if isinstance(grace, bool) or not isinstance(grace, (int, float)) or not 0 <= grace <= _LONGEST_GRACE:
        raise InvalidValue(f"grace must be seconds, from 0 to {_LONGEST_GRACE}, not {grace!r}")
    return float(grace)


def to_bytes(data: bytes | str) -> bytes:
    """What a command is to read: bytes as they are, text as UTF-8. InvalidValue for anything else."""
    try:
        return data.encode() if isinstance(data, str) else bytes(memoryview(data))
    except (TypeError, UnicodeEncodeError) as error:
        raise InvalidValue(f"input must be bytes or text, not {type(data).__name__}: {error}") from error


def _signal_number(signal: int | str) -> int:
    number = signals.Signals.__members__.get(signal, 0) if isinstance(signal, str) else signal
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= _LAST_SIGNAL:
        raise InvalidValue(f"there is no signal {signal!r}", hint="for example 15 or 'SIGTERM'")
    return int(number)
