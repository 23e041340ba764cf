"""A running QEMU: one thread starts it, carries its connections, hears what it says, and notices its end."""

from __future__ import annotations

import fcntl
import os
import re
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from queue import SimpleQueue

import attrs

from aegis_sdk.drivers import qmp
from aegis_sdk.drivers.base import BootPlan
from aegis_sdk.drivers.reactor import READ, Reactor
from aegis_sdk.drivers.relay import Relay
from aegis_sdk.drivers.vmm import Tail, Vmm
from aegis_sdk.errors import BootFailed, ProtocolViolation
from aegis_sdk.model import Cause, Ending, signal_name

PORT = "aegis"
_TICK = 5.0
_CHUNK = 1 << 16
_PANIC = re.compile(r"Kernel panic - not syncing: (.*)")


@attrs.frozen
class Wires:
    """What joins QEMU to this process: our ends of three sockets, and the descriptors that QEMU is given."""

    port: socket.socket
    console: socket.socket
    monitor: socket.socket
    theirs: dict[str, int]

    @classmethod
    def lay(cls, plan: BootPlan, undo: ExitStack) -> Wires:
        """Socket pairs and opened disks: nothing of a machine has a name in the file system to be left behind."""
        ours, theirs = {}, {}
        for name in ("port", "console", "monitor"):
            here, there = (_above_standard(end.detach()) for end in socket.socketpair())
            ours[name] = undo.enter_context(socket.socket(fileno=here))
            theirs[name] = there
            undo.callback(os.close, there)
        for name, path in (("harness", plan.harness), ("image", plan.image)):
            theirs[name] = _above_standard(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
            undo.callback(os.close, theirs[name])
        return cls(**ours, theirs=theirs)

    def let_go(self) -> None:
        """Close what QEMU was given: it has it by now."""
        while self.theirs:
            os.close(self.theirs.popitem()[1])

    def close(self) -> None:
        """Close everything."""
        self.let_go()
        for end in (self.port, self.console, self.monitor):
            end.close()


def _above_standard(descriptor: int) -> int:
    """*descriptor* under a number that is nobody's standard stream, in a program that has closed some of its own."""
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(descriptor)


def launch(command: list[str], wires: Wires, name: str) -> QemuMachine:
    """Start QEMU by *command*; it takes *wires* over. BootFailed if there is no process to be had."""
    born: SimpleQueue[QemuMachine | BootFailed] = SimpleQueue()
    unwanted = threading.Event()
    threading.Thread(target=_live, args=(command, wires, born, unwanted), name=f"aegis-{name}", daemon=True).start()
    try:
        machine = born.get()
    except BaseException:  # Ctrl-C: a machine that is born after it, or was just before, must not live
        unwanted.set()
        if not born.empty() and isinstance(machine := born.get(), QemuMachine):
            machine.kill()
        raise
    if isinstance(machine, BootFailed):
        raise machine
    return machine


def _live(
    command: list[str], wires: Wires, born: SimpleQueue[QemuMachine | BootFailed], unwanted: threading.Event
) -> None:
    # The kernel kills QEMU when the thread that started it ends, so this one stays for the machine's whole life.
    with ExitStack() as undo:
        undo.callback(wires.close)
        try:
            vmm = Vmm.start(command, pass_fds=list(wires.theirs.values()))
            undo.callback(vmm.end)
            wires.let_go()
            machine = QemuMachine(vmm, wires)
        except Exception as error:  # noqa: BLE001  # whatever it is, it belongs to who waits
            born.put(BootFailed(f"QEMU could not be started: {error}"))
            return
        undo.pop_all()
    born.put(machine)
    if unwanted.is_set():
        machine.kill()
    machine.live()


class QemuMachine:
    """A running QEMU and all that is connected to it."""

    def __init__(self, vmm: Vmm, wires: Wires) -> None:
        self._vmm, self._wires, self._thread = vmm, wires, threading.get_ident()
        self._reactor = Reactor(tick=_TICK, on_tick=self._ask_for_life)
        self._relay = Relay(self._reactor, wires.port)
        self._monitor = qmp.Monitor(PORT)
        self._console, self._errors = Tail(), Tail()
        self._fate: tuple[Cause, str] | None = None  # why it is ended, when it is this side that ends it
        self._ending: Ending | None = None  # while it runs
        self._ended = threading.Event()

    @property
    def pid(self) -> int:
        return self._vmm.pid

    def dial(self) -> socket.socket:
        here, there = socket.socketpair()
        if not self._relay.connect(there):
            there.close()
        return here

    def kill(self) -> None:
        self._reactor.ask(partial(self._end, Cause.STOPPED))

    def wait(self, timeout: float | None = None) -> Ending | None:
        # A garbage collection in the machine's own thread may end up here, and would wait for itself.
        if threading.get_ident() != self._thread:
            self._ended.wait(timeout)
        return self._ending

    def live(self) -> None:
        """Serve the machine until QEMU has ended; only in the thread that started it."""
        try:
            with suppress(OSError):  # it may have ended already, which is noticed below
                self._wires.monitor.sendall(qmp.GREETING)
            for source, take in self._sources():
                os.set_blocking(source, False)
                self._reactor.watch(source, READ, partial(self._read, source, take))
            self._reactor.watch(self._vmm.pidfd, READ, lambda _: self._reactor.stop())
            self._reactor.run()
        except ProtocolViolation as error:
            self._end(Cause.VIOLATION, error.message)
        except BaseException as error:
            self._end(Cause.FAILED, f"Aegis itself failed: {error!r}")
            raise
        finally:
            self._bury()

    def _sources(self) -> tuple[tuple[int, Callable[[bytes], None]], ...]:
        return (
            (self._wires.console.fileno(), self._console.feed),
            (self._vmm.errors, self._errors.feed),
            (self._wires.monitor.fileno(), self._monitor.feed),
        )

    def _read(self, source: int, take: Callable[[bytes], None], _: int = READ) -> None:
        try:
            data = os.read(source, _CHUNK)
        except (BlockingIOError, ConnectionResetError):
            return
        if not data:
            self._reactor.forget(source)
            return
        take(data)
        if self._monitor.port_lost:
            # Its kernel has switched its devices off, and without ACPI it could never switch off the machine.
            self._end(Cause.POWERED_OFF)

    def _ask_for_life(self) -> None:
        if not self._relay.alive():
            self._end(Cause.UNRESPONSIVE, "it has not answered for 30 s")

    def _end(self, cause: Cause, detail: str = "") -> None:
        self._fate = self._fate or (cause, detail)
        self._vmm.kill()

    def _bury(self) -> None:
        code = self._vmm.wait()
        for source, take in self._sources():
            _drain(source, take)
        self._relay.close()
        self._wires.close()
        self._vmm.close()
        self._ending = self._explain(code)
        self._ended.set()

    def _explain(self, code: int) -> Ending:
        console = str(self._console)
        if self._fate:
            cause, detail = self._fate
        elif code < 0:
            cause, detail = Cause.KILLED, f"QEMU (process {self.pid}) ended by {signal_name(-code)}"
        elif panic := _PANIC.search(console):
            cause = Cause.OUT_OF_MEMORY if "memory" in panic[1] else Cause.PANICKED
            detail = panic[1].strip()
        elif self._monitor.shutdown.startswith("guest-"):
            cause, detail = Cause.POWERED_OFF, ""
        else:
            cause, detail = Cause.FAILED, str(self._errors).strip() or f"QEMU ended with exit code {code}"
        return Ending(cause=cause, detail=detail, console=console)


def _drain(source: int, take: Callable[[bytes], None]) -> None:
    try:
        while data := os.read(source, _CHUNK):
            take(data)
    except (OSError, ProtocolViolation):
        pass  # what could be read has been
