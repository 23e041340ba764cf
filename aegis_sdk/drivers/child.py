"""A child process, and a descriptor that tells of its end: a pidfd on Linux, elsewhere a pipe that it holds open."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import attrs

Process = subprocess.Popen[bytes]
Spawn = Callable[[Sequence[int]], Process]  # told which further descriptors the process is to have


class Child(Protocol):
    """A process that this one has started."""

    @property
    def process(self) -> Process:
        """The process itself, to wait for."""

    @property
    def ended(self) -> int:
        """A descriptor that becomes readable when it has ended; to be closed by who started it."""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; fine if it has ended."""


def start(spawn: Spawn) -> Child:
    """What *spawn* starts, watched in the best way that this system has."""
    if sys.platform == "linux":
        return PidfdChild.start(spawn)
    return PipeChild.start(spawn)


if sys.platform == "linux":

    @attrs.frozen
    class PidfdChild:
        """A child with a pidfd."""

        process: Process
        ended: int

        @classmethod
        def start(cls, spawn: Spawn) -> PidfdChild:
            process = spawn(())
            try:
                return cls(process, os.pidfd_open(process.pid))
            except BaseException:
                process.kill()
                process.wait()
                raise

        def send(self, number: signal.Signals) -> None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.ended, number)


@attrs.frozen
class PipeChild:
    """A child that alone holds the other end of a pipe, without knowing, and has no children that could inherit it."""

    process: Process
    ended: int

    @classmethod
    def start(cls, spawn: Spawn) -> PipeChild:
        ended, theirs = os.pipe()
        try:
            return cls(spawn((theirs,)), ended)
        except BaseException:
            os.close(ended)
            raise
        finally:
            os.close(theirs)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(
            number
        )  # which knows whether it has been waited for, so that its number is nobody else's
