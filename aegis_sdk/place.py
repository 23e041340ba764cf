"""Where a command runs, as who holds its ``Process`` reaches it: in a sandbox, or in a task's."""

from __future__ import annotations

import os
import socket
import time
from typing import Protocol

import attrs

from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.loss import why_lost
from aegis_sdk.errors import AegisError, GuestNotResponding, SandboxClosed, TaskFailed
from aegis_sdk.guest import requests
from aegis_sdk.guest.channel import Channel
from aegis_sdk.model import Command

_ANSWER = 10.0  # for what a harness does at once, on a host that is busy
_END = 30.0  # for a task's end, when its connection is at its own


class Place(Protocol):
    """What a process needs of where it runs."""

    @property
    def identity(self) -> str:
        """The command's name there."""

    def begin(self, command: Command) -> Channel:
        """The connection of the command, which runs now or when its turn comes; OSError if it is lost at once."""

    def dial(self) -> socket.socket:
        """A new connection to the guest, of a command that has begun."""

    def lost(self, command: str) -> AegisError:
        """Why the connection of *command* has ended before it."""

    def condemn(self) -> None:
        """End the guest, which has broken the protocol."""


@attrs.frozen
class InSandbox:
    """A guest that the caller has."""

    engine: Engine
    sandbox: str
    identity: str = attrs.field(factory=lambda: os.urandom(8).hex(), init=False)

    def begin(self, command: Command) -> Channel:
        channel = Channel(self.engine.dial(self.sandbox))
        try:
            requests.start(channel, self.identity, command, deadline=time.monotonic() + _ANSWER)
        except TimeoutError as error:
            channel.close()
            name = " ".join(command.argv)
            raise GuestNotResponding(f"the sandbox has not taken {name!r} for {_ANSWER:.0f} s") from error
        except BaseException:
            channel.close()
            raise
        return channel

    def dial(self) -> socket.socket:
        return self.engine.dial(self.sandbox)

    def lost(self, command: str) -> AegisError:
        return why_lost(self.engine, self.sandbox, repr(command))

    def condemn(self) -> None:
        self.engine.stop(self.sandbox, grace=0.0)  # and not removed: it may be kept


@attrs.frozen
class InTask:
    """The guest of an attached task, which begins when the task's turn comes, and whose command has the task's ID."""

    engine: Engine
    identity: str

    def begin(self, command: Command) -> Channel:  # noqa: ARG002  # the task has it already
        return Channel(self.engine.tasks.attach(self.identity))

    def dial(self) -> socket.socket:
        if sandbox := self.engine.tasks.get(self.identity).sandbox:
            return self.engine.dial(sandbox)
        raise SandboxClosed(f"task {self.identity} has no guest any more")

    def lost(self, command: str) -> AegisError:
        info = self.engine.tasks.wait(self.identity, timeout=_END)
        if info.state.terminal:
            return TaskFailed(info.reason or f"task {self.identity} has ended: {info.state}")
        return TaskFailed(f"the connection of {command!r}, task {self.identity}, was lost")

    def condemn(self) -> None:
        self.engine.tasks.cancel(self.identity)
