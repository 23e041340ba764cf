"""A running machine, whatever its monitor: one thread starts it, carries its connections, and notices its end."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from typing import Protocol

import attrs

from aegis_sdk.drivers.base import BootPlan, Outlet, Witness
from aegis_sdk.drivers.reactor import Reactor
from aegis_sdk.drivers.readiness import READ
from aegis_sdk.drivers.relay import Relay
from aegis_sdk.drivers.vmm import Tail, Vmm
from aegis_sdk.errors import BootFailed, ProtocolViolation
from aegis_sdk.model import Cause, Ending, signal_name

_TICK = 0.15
_TICKS_A_QUESTION = 32  # for a sign of life, about every 5 s
_STILL_TICKS = 2
_GRACE = 0.5
_CHUNK = 1 << 16
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")


@attrs.frozen
class Wires:
    """The descriptors that a monitor is given."""

    theirs: dict[str, int]

    @classmethod
    def lay(cls, plan: BootPlan, undo: ExitStack) -> Wires:
        """Opened disks: nothing of a machine has a name in the file system to be left behind."""
        wires = cls({})
        for name, path in (("harness", plan.harness), ("image", plan.image)):
            wires.give(name, os.open(path, os.O_RDONLY | os.O_CLOEXEC), undo)
        return wires

    def join(self, name: str, undo: ExitStack) -> socket.socket:
        """Our end of a new socket pair; the other is the monitor's."""
        here, there = socket.socketpair()
        ours = undo.enter_context(socket.socket(fileno=above_standard(here.detach())))
        self.give(name, there.detach(), undo)
        return ours

    def give(self, name: str, descriptor: int, undo: ExitStack) -> int:
        """Let the monitor have *descriptor*, which is no longer the caller's; its number there."""
        self.theirs[name] = number = above_standard(descriptor)
        undo.callback(os.close, number)
        return number

    def let_go(self) -> None:
        """Close what the monitor was given: it has it by now."""
        while self.theirs:
            os.close(self.theirs.popitem()[1])


def above_standard(descriptor: int) -> int:
    """*descriptor* under a number that is nobody's standard stream, in a program that has closed some of its own."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(descriptor)


class Line(Protocol):
    """What differs between monitors: how the guest's port gets here, and what tells of the guest's end."""

    @property
    def monitor(self) -> str:
        """The monitor's name, for messages."""

    @property
    def guest_is_off(self) -> bool:
        """Whether the guest is known to have switched itself off, which may leave its monitor running."""

    @property
    def halts_in_silence(self) -> bool:
        """Whether the monitor neither ends nor says anything when its guest's processors stop."""

    def attend(self, machine: ProcessMachine) -> None:
        """In the machine's thread, before anything else: say what is to be carried and heard."""

    def guest_ended_it(self, code: int) -> bool:
        """Whether it was by its guest's will that the monitor ended with exit code *code*."""

    def close(self) -> None:
        """Give everything back; fine if that was done."""


def launch(
    command: list[str],
    wires: Wires,
    line: Line,
    *,
    name: str,
    aloud: bool,
    python: str,
    witness: Witness | None = None,
    outlet: Outlet | None = None,
) -> ProcessMachine:
    """Start a monitor by *command*; it takes *wires* and *line* over. BootFailed if there is no process to be had.

    What the monitor says on its standard error is repeated on ours if *aloud*; *python* is what confines it; *witness*
    is told what becomes of the machine, *outlet* gets the connections that its guest opens.
    """
    born: SimpleQueue[ProcessMachine | BootFailed] = SimpleQueue()
    unwanted = threading.Event()
    start = partial(_start, command, wires, line, Tail(aloud=aloud), python, witness=witness, outlet=outlet)
    thread = threading.Thread(target=_live, args=(start, line, born, unwanted), name=f"aegis-{name}", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # the system gives this user, or this process, no more threads
        wires.let_go()
        line.close()
        raise BootFailed(f"{line.monitor} could not be started: {error}") from error
    try:
        machine = born.get()
    except BaseException:  # Ctrl-C: a machine that is born after it, or was just before, must not live
        unwanted.set()
        if not born.empty() and isinstance(machine := born.get(), ProcessMachine):
            machine.kill()
        raise
    if isinstance(machine, BootFailed):
        raise machine
    return machine


def _live(
    start: Callable[[], ProcessMachine],
    line: Line,
    born: SimpleQueue[ProcessMachine | BootFailed],
    unwanted: threading.Event,
) -> None:
    # The kernel kills the monitor when the thread that started it ends, so this one stays for the machine's whole life.
    try:
        machine = start()
    except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to who waits
        born.put(BootFailed(f"{line.monitor} could not be started: {error}"))
        return
    born.put(machine)
    if unwanted.is_set():
        machine.kill()
    machine.live()


def _start(
    command: list[str],
    wires: Wires,
    line: Line,
    errors: Tail,
    python: str,
    *,
    witness: Witness | None,
    outlet: Outlet | None,
) -> ProcessMachine:
    with ExitStack() as undo:
        undo.callback(wires.let_go)
        undo.callback(line.close)
        vmm = Vmm.start(command, pass_fds=list(wires.theirs.values()), python=python)
        undo.callback(vmm.end)
        wires.let_go()
        machine = ProcessMachine(vmm, line, errors, witness, outlet)
        undo.pop_all()
    return machine


class ProcessMachine:
    """A machine whose monitor is a process of its own, and all that is connected to it."""

    def __init__(
        self, vmm: Vmm, line: Line, errors: Tail, witness: Witness | None, outlet: Outlet | None = None
    ) -> None:
        self._vmm, self._line, self._thread = vmm, line, threading.get_ident()
        self._witness, self._outlet = witness, outlet
        ticks = 1 if line.halts_in_silence else _TICKS_A_QUESTION
        self._reactor = Reactor(tick=_TICK * ticks, on_tick=partial(self._on_tick, ticks))
        self._ticks = 0
        self._paused = False
        self._still = 0  # ticks for which all has stood still
        self._time_run: int | None = None  # the monitor's, as it was at the last tick
        self._relay = Relay(self._reactor, outlet)
        self._console, self._errors = Tail(), errors
        self._heard: list[tuple[int, Callable[[bytes], None]]] = []
        self._fate: tuple[Cause, str] | None = None  # why it is ended, when it is this side that ends it
        self._ending: Ending | None = None  # while it runs
        self._ended = threading.Condition()  # no Event: a signal handler may wait too, in a thread that holds its lock

    @property
    def pid(self) -> int:
        return self._vmm.pid

    def dial(self) -> socket.socket:
        here, there = socket.socketpair()
        if not self._relay.connect(there):
            there.close()
        return here

    def pause(self) -> None:
        self._reactor.ask_and_wait(self._pause)

    def resume(self) -> None:
        self._reactor.ask_and_wait(self._resume)

    @property
    def paused(self) -> bool:
        return self._paused

    def memory_used(self) -> int | None:
        return self._vmm.memory_used()

    def logs(self) -> str:
        return str(self._console)

    def retire(self) -> None:
        self._reactor.ask(self._retire)

    def kill(self, cause: Cause = Cause.STOPPED) -> None:
        self._reactor.ask(partial(self._end, cause))

    def wait(self, timeout: float | None = None) -> Ending | None:
        # A garbage collection in the machine's own thread may end up here, and would wait for itself.
        if threading.get_ident() != self._thread:
            with self._ended:
                self._ended.wait_for(lambda: self._ending, timeout)
        return self._ending

    def live(self) -> None:
        """Serve the machine until its monitor has ended; only in the thread that started it."""
        try:
            self._line.attend(self)
            self.hear(self._vmm.errors, self._errors.feed)
            self._reactor.watch(self._vmm.ended, READ, lambda _: self._reactor.stop())
            self._reactor.run()
        except ProtocolViolation as error:
            self._end(Cause.VIOLATION, error.message)
        except BaseException as error:
            self._end(Cause.FAILED, f"Aegis itself failed: {error!r}")
            raise
        finally:
            self._bury()

    def hear(self, source: int, take: Callable[[bytes], None]) -> None:
        """For a line: have *take* called with what the descriptor *source* brings, to the machine's end."""
        os.set_blocking(source, False)
        self._heard.append((source, take))
        self._reactor.watch(source, READ, partial(self._read, source, take))

    def hear_console(self, source: int) -> None:
        """For a line: keep the end of what the descriptor *source* brings from the guest's console."""
        self.hear(source, self._hear_console)

    def lean_on(self, source: int, what: str) -> None:
        """For a line: end the machine, because of *what*, when the other end of the pipe *source* is gone."""
        self._reactor.watch(source, READ, lambda _: self._lose(source, what))

    def await_call(self, listener: socket.socket, close: Callable[[], None]) -> None:
        """For a line: have the first connection that *listener* gets carry the machine's, then *close* the listener."""
        listener.setblocking(False)
        self._reactor.watch(listener.fileno(), READ, lambda _: self._take_call(listener, close))

    def carry(self, port: socket.socket) -> None:
        """For a line: carry the machine's connections over *port*; its monitor's end is what ends it."""
        self._relay.carry(port)

    def _hear_console(self, data: bytes) -> None:
        self._console.feed(data)
        if self._witness:
            self._witness.said(data)

    def _take_call(self, listener: socket.socket, close: Callable[[], None]) -> None:
        port = socket.socket(fileno=above_standard(listener.accept()[0].detach()))
        self._reactor.forget(listener.fileno())
        close()
        self._relay.carry(port, on_end=self._guest_hung_up)

    def _lose(self, source: int, what: str) -> None:
        self._reactor.forget(source)
        if not self._vmm.ends_within(_GRACE):  # it may be the monitor's end that took the other along
            self._end(Cause.FAILED, what)

    def _guest_hung_up(self) -> None:
        """Give the monitor a moment to end, which not all do when their guest has.

        The thread may stand still for that moment: of this machine, nothing is left to be carried.
        """
        if not self._vmm.ends_within(_GRACE):
            self._drain()
            self._end(*(self._panic() or (Cause.POWERED_OFF, "")))

    def _read(self, source: int, take: Callable[[bytes], None], _: int = READ) -> None:
        try:
            data = os.read(source, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # a terminal's end is EIO, a socket's may be a reset
            data = b""
        if not data:
            self._reactor.forget(source)
            return
        take(data)
        if self._line.guest_is_off:
            self._end(Cause.POWERED_OFF)

    def _pause(self) -> None:
        self._paused = True
        self._vmm.send(signal.SIGSTOP)

    def _resume(self) -> None:
        self._paused = False
        self._time_run = None
        self._relay.forgive()
        self._vmm.send(signal.SIGCONT)

    def _on_tick(self, ticks: int) -> None:
        if self._paused:
            return
        self._ticks += ticks
        if self._line.halts_in_silence and self._has_halted():
            self._end(Cause.POWERED_OFF)
        if self._ticks % _TICKS_A_QUESTION == 0 and not self._relay.alive():
            self._end(Cause.UNRESPONSIVE, "it has not answered for 30 s")

    def _has_halted(self) -> bool:
        """Whether the guest's processors have stopped for good.

        They have if all of the monitor stood still from one tick to the next, twice, while the guest owed an answer: a
        guest that lives would have been woken by the question, and a slow one has a thread that is not asleep. Twice,
        because both of us may have been frozen between the question and the first look, as in a laptop that was shut.
        Its threads, 40 of them, are looked at last: that takes milliseconds.
        """
        before, self._time_run = self._time_run, self._vmm.time_run()
        if before is None or before != self._time_run or not self._relay.owes_a_sign() or not self._vmm.sleeps():
            self._still = 0
            return False
        self._still += 1
        return self._still >= _STILL_TICKS

    def _retire(self) -> None:
        self._fate = self._fate or (Cause.STOPPED, "")

    def _end(self, cause: Cause, detail: str = "") -> None:
        self._fate = self._fate or (cause, detail)
        self._vmm.send(signal.SIGKILL)

    def _bury(self) -> None:
        code = self._vmm.wait()
        self._drain()
        self._relay.close()
        if self._outlet:
            self._outlet.close()
        self._line.close()
        self._vmm.close()
        cause, detail = self._fate or self._explain(code)
        ending = Ending(cause=cause, detail=detail, console=str(self._console))
        if self._witness:
            self._witness.ended(ending)
        with self._ended:
            self._ending = ending
            self._ended.notify_all()

    def _explain(self, code: int) -> tuple[Cause, str]:
        monitor = self._line.monitor
        if code < 0:
            return Cause.KILLED, f"{monitor} (process {self.pid}) ended by {signal_name(-code)}"
        if panic := self._panic():
            return panic
        if self._line.guest_ended_it(code):
            return Cause.POWERED_OFF, ""
        return Cause.FAILED, str(self._errors).strip() or f"{monitor} ended with exit code {code}"

    def _panic(self) -> tuple[Cause, str] | None:
        panic = _PANIC.search(str(self._console))
        if not panic:
            return None
        return (Cause.OUT_OF_MEMORY if "memory" in panic[1] else Cause.PANICKED), panic[1].strip()

    def _drain(self) -> None:
        """Hear all that has been said so far."""
        for source, take in self._heard:
            try:
                while data := os.read(source, _CHUNK):
                    take(data)
            except (OSError, ProtocolViolation):
                continue  # what could be read has been
