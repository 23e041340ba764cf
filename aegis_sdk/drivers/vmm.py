"""The process of a machine's monitor: started confined, watched by a thread of its own, ended with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import attrs

from aegis_sdk.model import printable

_CONFINE = Path(__file__).with_name("confine.py")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_TAIL = 64 << 10


@attrs.define(eq=False)
class Vmm:
    """A running monitor; *pidfd* becomes readable when it has ended."""

    pidfd: int
    errors: int  # what the monitor says on its standard error, to be read
    _child: subprocess.Popen[bytes]

    @classmethod
    def start(cls, command: Sequence[str], *, pass_fds: Sequence[int]) -> Vmm:
        """Start *command* in a session of its own, to die with the calling thread; OSError if it cannot be."""
        with ExitStack() as undo:
            errors, theirs = os.pipe()
            undo.callback(os.close, errors)
            try:
                child = _spawn(command, theirs, pass_fds)
            finally:
                os.close(theirs)
            undo.callback(child.wait)
            undo.callback(child.kill)
            vmm = cls(os.pidfd_open(child.pid), errors, child)
            undo.pop_all()
            return vmm

    @property
    def pid(self) -> int:
        return self._child.pid

    def kill(self) -> None:
        """SIGKILL; fine if it has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end; the exit code, or minus the number of the signal that killed it."""
        return self._child.wait()

    def end(self) -> None:
        """Kill it, and give everything back."""
        self.kill()
        self.wait()
        self.close()

    def close(self) -> None:
        """Give the descriptors back, once it has ended."""
        os.close(self.errors)
        os.close(self.pidfd)


def _spawn(command: Sequence[str], errors: int, pass_fds: Sequence[int]) -> subprocess.Popen[bytes]:
    if not sys.executable:
        raise OSError("this Python does not know its own program (sys.executable), which starts the monitor")
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_CONFINE), str(os.getpid()), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=_ENVIRONMENT,
        start_new_session=True,
        pass_fds=pass_fds,
    )


@attrs.define
class Tail:
    """The last 64 KiB of a stream."""

    _bytes: bytearray = attrs.field(factory=bytearray)

    def feed(self, data: bytes) -> None:
        self._bytes += data
        if len(self._bytes) > 2 * _TAIL:
            del self._bytes[:-_TAIL]

    def __str__(self) -> str:
        """As text that is safe to show on a terminal."""
        return printable(self._bytes[-_TAIL:].decode("utf-8", "replace").replace("\r\n", "\n"))
