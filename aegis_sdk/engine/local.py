"""The engine in this process: its sandboxes are children of the process and end with it."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

from aegis_sdk.artifacts import Artifacts
from aegis_sdk.config import Config
from aegis_sdk.drivers.base import BootPlan, Driver, Machine
from aegis_sdk.drivers.qemu import Qemu
from aegis_sdk.errors import (
    AegisError,
    BootFailed,
    BootTimedOut,
    GuestNotResponding,
    ImageFailed,
    ImageNotFound,
    InvalidValue,
    SandboxClosed,
)
from aegis_sdk.guest import requests
from aegis_sdk.guest.channel import Channel
from aegis_sdk.images import harness
from aegis_sdk.images.base import ImageSource
from aegis_sdk.images.busybox import BaseImage
from aegis_sdk.model import Cause, Check, Ending, SandboxInfo, SandboxSpec

_BOOT_TIMEOUT = 30.0
_END_TIMEOUT = 5.0
_NOTICE = (
    "aegis: no hardware virtualization here, so guests run in software: a boot takes a second or two"
    " (`aegis doctor` says why; this is said once)\n"
)
_FREE_DISK = 200 << 20


@attrs.frozen
class _Running:
    machine: Machine
    control: Channel


class LocalEngine:
    """Sandboxes in this process's own children."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._artifacts = Artifacts(config.data / "images")
        self._drivers: dict[str, Driver] = {driver.name: driver for driver in (Qemu(config, self._artifacts),)}
        self._sources: tuple[ImageSource, ...] = (BaseImage(self._artifacts),)
        self._running: dict[str, _Running] = {}
        self._owner = os.getpid()
        # A garbage collection may remove a sandbox while its own thread creates one.
        self._lock = threading.RLock()

    def create(self, spec: SandboxSpec) -> SandboxInfo:
        driver = self._driver(spec.driver or self._config.driver)
        self._notice(driver)
        phases = _Phases()
        identity = os.urandom(6).hex()
        with phases.measure("disks"), _making_disks(self._artifacts.directory):
            disks = {"image": self._source(spec.image).disk(spec.image), "harness": harness.disk(self._artifacts)}
        with ExitStack() as undo:
            with phases.measure("monitor"), _starting():
                machine = driver.boot(BootPlan(name=identity, memory=spec.memory, cpus=spec.cpus, **disks))
            undo.callback(_end, machine)
            control = Channel(machine.dial())
            undo.callback(control.close)
            with phases.measure("kernel"):
                booted = _finish_boot(machine, control, spec)
            phases.split("kernel", booted.phases)
            with self._lock:
                self._running[identity] = _Running(machine, control)
            undo.pop_all()
        return SandboxInfo(
            id=identity,
            image=spec.image,
            driver=driver.name,
            accelerator=driver.accelerator,
            memory=spec.memory,
            cpus=spec.cpus,
            pid=machine.pid,
            kernel=booted.kernel,
            phases=phases.seconds,
        )

    def dial(self, sandbox: str) -> socket.socket:
        if os.getpid() != self._owner:
            raise SandboxClosed(f"sandbox {sandbox} belongs to the process that made it, not to its forked child")
        if running := self._running.get(sandbox):
            return running.machine.dial()
        raise SandboxClosed(f"sandbox {sandbox} is closed")

    def ending(self, sandbox: str, *, timeout: float) -> Ending | None:
        if running := self._running.get(sandbox):
            return running.machine.wait(timeout)
        return Ending(cause=Cause.STOPPED)

    def remove(self, sandbox: str) -> None:
        with self._lock:
            running = self._running.pop(sandbox, None)
        if running:
            try:
                _end(running.machine)
            finally:
                running.control.close()

    def check(self) -> tuple[Check, ...]:
        drivers = (check for driver in self._drivers.values() for check in driver.check())
        sources = (check for source in self._sources for check in source.check())
        return (*drivers, harness.check(), *sources, _check_home(self._config.home))

    def _driver(self, name: str) -> Driver:
        if name == "auto":
            return next(iter(self._drivers.values()))
        if driver := self._drivers.get(name):
            return driver
        raise InvalidValue(f"there is no driver {name!r}", hint=f"choose one of: auto, {', '.join(self._drivers)}")

    def _source(self, reference: str) -> ImageSource:
        for source in self._sources:
            if source.claims(reference):
                return source
        raise ImageNotFound(f"no image source knows {reference!r}", hint="this version has one image: base")

    def _notice(self, driver: Driver) -> None:
        """Say once per home, not once per guest, that guests run in software here."""
        if driver.accelerator != "tcg":
            return
        try:
            self._config.data.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self._config.data / "software-emulation-noticed").touch(exist_ok=False)
        except OSError:
            return
        if sys.stderr:  # a program may have closed it
            sys.stderr.write(_NOTICE)


@attrs.define
class _Phases:
    """The named steps of a boot with their seconds, in their order."""

    seconds: dict[str, float] = attrs.field(factory=dict)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start

    def split(self, name: str, parts: dict[str, float]) -> None:
        """Take *parts*, which the guest measured, out of phase *name* and put them behind it."""
        self.seconds[name] = max(0.0, self.seconds[name] - sum(parts.values()))
        self.seconds |= {f"harness {part}": seconds for part, seconds in parts.items()}


def _finish_boot(machine: Machine, control: Channel, spec: SandboxSpec) -> requests.Booted:
    deadline = time.monotonic() + _BOOT_TIMEOUT
    try:
        return requests.boot(control, writable=spec.writable, hostname="aegis", deadline=deadline)
    except TimeoutError as error:
        machine.kill()
        ending = machine.wait(_END_TIMEOUT) or Ending(cause=Cause.UNRESPONSIVE)
        message = f"the guest's harness did not answer within {_BOOT_TIMEOUT:.0f} s"
        raise BootTimedOut(message + ending.last_words(), hint=_memory_hint(ending, spec)) from error
    except (EOFError, OSError) as error:
        ending = machine.wait(_END_TIMEOUT) or Ending(cause=Cause.UNRESPONSIVE)
        message = f"the guest ended before its harness was ready: {ending}"
        raise BootFailed(message + ending.last_words(), hint=_memory_hint(ending, spec)) from error


def _memory_hint(ending: Ending, spec: SandboxSpec) -> str:
    words = f"{ending.detail} {ending.console}".lower()
    if "memory" not in words:
        return ""
    if ending.cause is Cause.FAILED:
        return f"this machine may not have {spec.memory} MiB to give; ask for less memory"
    return f"{spec.memory} MiB may be too little; ask for more memory"


def _end(machine: Machine) -> None:
    machine.kill()
    if not machine.wait(_END_TIMEOUT):
        raise GuestNotResponding(f"process {machine.pid} has not ended {_END_TIMEOUT:.0f} s after SIGKILL")


@contextmanager
def _starting() -> Iterator[None]:
    try:
        yield
    except AegisError:
        raise
    except OSError as error:
        raise BootFailed(f"the guest's monitor could not be started: {error}") from error


@contextmanager
def _making_disks(directory: Path) -> Iterator[None]:
    try:
        yield
    except AegisError:
        raise
    except OSError as error:
        hint = "free some space, or set AEGIS_HOME to a directory that this user may write to"
        raise ImageFailed(
            f"a guest's disk could not be made in {directory}: {error.strerror or error}", hint=hint
        ) from error


def _free(directory: Path) -> int:
    about = os.statvfs(directory)
    return about.f_bavail * about.f_frsize


def _check_home(home: Path) -> Check:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = _free(home)
    except OSError as error:
        return Check(name="home", ok=False, seen=f"{home} cannot be made: {error.strerror}", fix="set AEGIS_HOME")
    if not os.access(home, os.W_OK | os.X_OK):
        return Check(name="home", ok=False, seen=f"{home} cannot be written to", fix=f"sudo chown -R $USER {home}")
    if free < _FREE_DISK:
        return Check(
            name="home", ok=False, seen=f"{home} has {free >> 20} MiB free, of 200 needed", fix="free some space"
        )
    return Check(name="home", ok=True, seen=f"{home}, {free >> 30} GiB free")
