"""The process of a machine's monitor: started confined, watched by a thread of its own, ended with it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import attrs

from aegis_sdk.drivers import child
from aegis_sdk.model import printable

_CONFINE = Path(__file__).with_name("confine.py")
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_TAIL = 64 << 10
_CPUCLOCK_SCHED = 2  # of a process, by its number: what clock_getcpuclockid(3) makes, which Python has not


@attrs.define(eq=False)
class Vmm:
    """A running monitor."""

    errors: int  # what the monitor says on its standard error, to be read
    _child: child.Child

    @classmethod
    def start(cls, command: Sequence[str], *, pass_fds: Sequence[int], python: str) -> Vmm:
        """Start *command* in a session of its own, to die with the calling thread; OSError if it cannot be."""
        if not python:
            raise OSError("this Python does not know its own program (sys.executable), which starts the monitor")
        confined = [python, "-I", "-S", str(_CONFINE), str(os.getpid()), *command]
        with ExitStack() as undo:
            errors, theirs = os.pipe()
            undo.callback(os.close, errors)
            try:
                vmm = cls(errors, child.start(partial(_spawn, confined, theirs, pass_fds)))
            finally:
                os.close(theirs)
            undo.pop_all()
            return vmm

    @property
    def pid(self) -> int:
        return self._child.process.pid

    @property
    def ended(self) -> int:
        """A descriptor that becomes readable when it has ended."""
        return self._child.ended

    def time_run(self) -> int | None:
        """Nanoseconds that its threads have run; None if it has ended. One call, however many they are."""
        with suppress(OSError):
            return time.clock_gettime_ns(~self.pid << 3 | _CPUCLOCK_SCHED)
        return None

    def sleeps(self) -> bool:
        """Whether none of its threads runs, is about to, waits for a disk, or is stopped."""
        try:
            tasks = Path(f"/proc/{self.pid}/task").iterdir()
            return all((task / "stat").read_text().rpartition(") ")[2][0] == "S" for task in tasks)
        except OSError:
            return False  # a thread has just ended

    def memory_used(self) -> int | None:
        """Bytes of memory that it takes; None once it has ended, and where nothing says so."""
        with suppress(OSError):
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal; fine if it has ended."""
        self._child.send(number)

    def ends_within(self, seconds: float) -> bool:
        """Whether it has ended after *seconds*."""
        poll = select.poll()
        poll.register(self.ended, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def wait(self) -> int:
        """Wait for its end; the exit code, or minus the number of the signal that killed it."""
        return self._child.process.wait()

    def end(self) -> None:
        """Kill it, and give everything back."""
        self.send(signal.SIGKILL)
        self.wait()
        self.close()

    def close(self) -> None:
        """Give the descriptors back, once it has ended."""
        os.close(self.errors)
        os.close(self.ended)


def _spawn(command: Sequence[str], errors: int, pass_fds: Sequence[int], more: Sequence[int]) -> child.Process:
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=_ENVIRONMENT,
        start_new_session=True,
        pass_fds=(*pass_fds, *more),
    )


@attrs.define
class Tail:
    """The last 64 KiB of a stream, repeated on standard error if *aloud*."""

    aloud: bool = attrs.field(default=False, kw_only=True)
    _bytes: bytearray = attrs.field(factory=bytearray, init=False)

    def feed(self, data: bytes) -> None:
        self._bytes += data
        if self.aloud and sys.stderr:  # a program may have closed it, or nobody reads it any more
            with suppress(OSError, ValueError):
                sys.stderr.write(printable(data.decode("utf-8", "replace")))
        if len(self._bytes) > 2 * _TAIL:
            del self._bytes[:-_TAIL]

    def __str__(self) -> str:
        """As text that is safe to show on a terminal."""
        return printable(self._bytes[-_TAIL:].decode("utf-8", "replace").replace("\r\n", "\n"))
