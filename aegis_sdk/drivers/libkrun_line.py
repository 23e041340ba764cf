"""What is libkrun's own between a machine and this process: the guest calls, at a socket that nobody else can reach."""

from __future__ import annotations

import os
import tty
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import attrs

from aegis_sdk.drivers import meeting
from aegis_sdk.drivers.machine import ProcessMachine, Wires, above_standard
from aegis_sdk.drivers.meeting import Meeting
from aegis_sdk.drivers.virtualization import ARM


@attrs.frozen
class LibkrunLine:
    """The socket at which libkrun calls for its guest, and the guest's console."""

    meeting: Meeting
    _console: BinaryIO
    monitor: str = attrs.field(default="libkrun", init=False)
    # On x86 it has no ACPI: the kernel of a guest that powers off has nothing to tell that to. On ARM it has PSCI: to
    # power off or to restart ends the process with code 0, under KVM and under HVF (libkrun's pull request 196).
    halts_in_silence: bool = attrs.field(default=not ARM, init=False)
    # Its end hangs up, which the machine hears.
    guest_is_off: bool = attrs.field(default=False, init=False)

    @classmethod
    def lay(cls, directory: Path, wires: Wires, undo: ExitStack) -> LibkrunLine:
        """A listening socket, and a terminal; what libkrun needs of them is in *wires*."""
        return cls(meeting.arrange(directory, wires, undo), _terminal(wires, undo))

    def attend(self, machine: ProcessMachine) -> None:
        machine.await_call(self.meeting.listener, self.meeting.over)
        machine.hear_console(self._console.fileno())

    def guest_ended_it(self, code: int) -> bool:
        return code == 0

    def close(self) -> None:
        self.meeting.over()
        self._console.close()


def _terminal(wires: Wires, undo: ExitStack) -> BinaryIO:
    """Our end of a new terminal: what is no terminal does not get the console from libkrun, but its log does."""
    here, there = os.openpty()
    try:
        here = above_standard(here)
    except OSError:
        os.close(there)
        raise
    ours = undo.enter_context(open(here, "rb", buffering=0))  # noqa: PTH123, SIM115  # on the stack
    tty.setraw(wires.give("console", there, undo))
    return ours
