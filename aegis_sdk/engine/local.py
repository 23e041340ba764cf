"""The engine in this process: its sandboxes are children of the process and end with it."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from aegis_sdk.artifacts import Artifacts, private
from aegis_sdk.config import Config
from aegis_sdk.drivers.base import BootPlan, Driver, Machine
from aegis_sdk.drivers.choice import Choice, choose
from aegis_sdk.drivers.libkrun import Libkrun
from aegis_sdk.drivers.qemu import Qemu
from aegis_sdk.engine.base import Report
from aegis_sdk.errors import (
    AegisError,
    BootFailed,
    BootTimedOut,
    GuestNotResponding,
    ImageFailed,
    InvalidValue,
    SandboxClosed,
)
from aegis_sdk.guest import requests
from aegis_sdk.guest.channel import Channel
from aegis_sdk.images import harness
from aegis_sdk.images.cache import ImageCache, OpenImage
from aegis_sdk.images.sources import Sources
from aegis_sdk.model import (
    Cause,
    Check,
    Ending,
    ImageInfo,
    Mount,
    PluginInfo,
    Pruned,
    SandboxInfo,
    SandboxSpec,
)

if TYPE_CHECKING:
    from aegis_sdk.plugins import Plugins

_BOOT_TIMEOUT = 30.0
_END_TIMEOUT = 5.0
_CLOCK_TIMEOUT = 30.0  # all that was sent to a paused guest reaches it first
_CLOCK_ERROR = 1.0
_NOTICE = (
    "aegis: no hardware virtualization here, so guests run in software: a boot takes a second or two"
    " (`aegis doctor` says why; this is said once)\n"
)
_FREE_DISK = 200 << 20


@attrs.frozen
class _Running:
    machine: Machine
    control: Channel
    image: OpenImage


class LocalEngine:
    """Sandboxes in this process's own children."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._artifacts = Artifacts(config.images)
        self._drivers: dict[str, Driver] = {
            driver.name: driver for driver in (Libkrun(config, self._artifacts), Qemu(config, self._artifacts))
        }
        self._sources = Sources(config, lambda: self._plugins.image_sources)
        self._images = ImageCache(config.images, self._sources, architecture=harness.architecture())
        self._running: dict[str, _Running] = {}
        self._owner = os.getpid()
        # A garbage collection may remove a sandbox while its own thread creates one.
        self._lock = threading.RLock()

    def create(self, spec: SandboxSpec, *, report: Report) -> SandboxInfo:
        shared = tuple(_source(mount) for mount in spec.mounts)
        choice = self._choose(spec)
        driver = choice.driver
        self._notice(driver)
        phases = _Phases()
        identity = os.urandom(6).hex()
        with ExitStack() as undo:
            with phases.measure("disks"), self._in_home():
                image = undo.enter_context(closing(self._open(spec, report)))
                disks = {"image": image.disk.path, "harness": harness.disk(self._artifacts)}
            with phases.measure("monitor"), _starting():
                machine = driver.boot(_plan(identity, spec, shared, **disks))
            undo.callback(_end, machine)
            control = Channel(machine.dial())
            undo.callback(control.close)
            with phases.measure("kernel"):
                booted = _finish_boot(machine, control, spec, image.record.config.cwd)
            phases.split("kernel", booted.phases)
            with self._lock:
                self._running[identity] = _Running(machine, control, image)
            undo.pop_all()
        return SandboxInfo(
            id=identity,
            image=spec.image,
            config=image.record.config,
            driver=driver.name,
            driver_reason=choice.reason,
            accelerator=driver.accelerator,
            memory=spec.memory,
            cpus=spec.cpus,
            pid=machine.pid,
            kernel=booted.kernel,
            phases=phases.seconds,
        )

    def dial(self, sandbox: str) -> socket.socket:
        if running := self._ours(sandbox):
            return running.machine.dial()
        raise SandboxClosed(f"sandbox {sandbox} is closed")

    def ending(self, sandbox: str, *, timeout: float) -> Ending | None:
        if running := self._running.get(sandbox):
            return running.machine.wait(timeout)
        return Ending(cause=Cause.STOPPED)

    def pause(self, sandbox: str) -> None:
        if running := self._ours(sandbox):
            running.machine.pause()

    def resume(self, sandbox: str) -> None:
        if running := self._ours(sandbox):
            running.machine.resume()
            _mend_clock(running.machine)

    def remove(self, sandbox: str) -> None:
        with self._lock:
            running = self._running.pop(sandbox, None)
        if running:
            try:
                _end(running.machine)
            finally:
                running.control.close()
                running.image.close()

    def pull_image(self, reference: str, *, pull: str, report: Report) -> ImageInfo:
        with self._in_home(), closing(self._images.open(reference, pull=pull, report=report)) as image:
            return self._images.info(image.record)

    def import_image(self, reference: str, *, name: str, replace: bool, report: Report) -> ImageInfo:
        with (
            self._in_home(),
            closing(self._images.import_image(reference, name=name, replace=replace, report=report)) as image,
        ):
            return self._images.info(image.record)

    def image(self, reference: str) -> ImageInfo:
        with self._in_home():
            return self._images.get(reference)

    def images(self) -> tuple[ImageInfo, ...]:
        with self._in_home():
            return self._images.all()

    def remove_image(self, reference: str, *, digest: str) -> None:
        with self._in_home():
            self._images.remove(reference, digest=digest)

    def prune_images(self, *, older_than: float | None, unused: bool) -> Pruned:
        with self._in_home():
            return self._images.prune(older_than=older_than, unused=unused)

    def plugins(self) -> tuple[PluginInfo, ...]:
        return self._plugins.infos

    def check(self) -> tuple[Check, ...]:
        sources = (check for source in self._sources.others() for check in source.check())
        return (
            *self._check_drivers(),
            harness.check(),
            *sources,
            *self._check_plugins(),
            _check_home(self._config.home),
        )

    def mend(self) -> tuple[str, ...]:
        return tuple(done for driver in self._drivers.values() for done in driver.mend())

    @cached_property
    def _plugins(self) -> Plugins:
        # Late: pluggy, and looking for what is installed, would cost each process a tenth of a second.
        from aegis_sdk.plugins import Plugins

        return Plugins.load(self._config)

    def _check_drivers(self) -> Iterator[Check]:
        """Which one is chosen, what it needs, and, as nothing that is required, what the others lack."""
        try:
            choice = choose(self._config.driver, self._drivers)
            chosen = choice.driver
            yield Check(name="driver", ok=True, seen=f"{chosen.name}: {choice.reason}")
        except AegisError as error:
            # The lacks of the last one are told for which there is something to do.
            last_first = list(reversed(self._drivers.values()))
            mendable = next((driver for driver in last_first if driver.why_not()[1]), last_first[0])
            chosen = self._drivers.get(self._config.driver, mendable)
            yield Check(name="driver", ok=False, seen=error.message, fix=error.hint)
        seen = {check.name: check for check in chosen.check()}
        yield from seen.values()
        for driver in self._drivers.values():
            for check in driver.check():
                if check.name not in seen:
                    yield attrs.evolve(check, required=False)

    def _check_plugins(self) -> Iterator[Check]:
        for plugin in self._plugins.infos:
            if plugin.error:
                seen = f"{plugin.name} of {plugin.origin} was not loaded: {plugin.error}"
                yield Check(name="plugin", ok=False, seen=seen, required=False)

    def _ours(self, sandbox: str) -> _Running | None:
        if os.getpid() != self._owner:
            raise SandboxClosed(f"sandbox {sandbox} belongs to the process that made it, not to its forked child")
        return self._running.get(sandbox)

    def _choose(self, spec: SandboxSpec) -> Choice:
        wanted = spec.driver or self._config.driver
        return choose(wanted, self._drivers, nested=spec.nested, shared=bool(spec.mounts))

    def _open(self, spec: SandboxSpec, report: Report) -> OpenImage:
        if spec.digest:
            return self._images.open_kept(spec.image, digest=spec.digest)
        return self._images.open(spec.image, pull=spec.pull, report=report)

    @contextmanager
    def _in_home(self) -> Iterator[None]:
        try:
            yield
        except AegisError:
            raise
        except OSError as error:
            seen = f"images cannot be kept in {self._config.images}: {error.strerror or error}"
            hint = "free some space, or set AEGIS_HOME to a directory that this user may write to"
            raise ImageFailed(seen, hint=hint) from error

    def _notice(self, driver: Driver) -> None:
        """Say once per home, not once per guest, that guests run in software here."""
        if driver.accelerator != "tcg":
            return
        try:
            private(self._config.data)
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


def _source(mount: Mount) -> Path:
    """Where *mount*'s source is for every process: what is below /proc/self is another directory for each."""
    missing = f"there is no directory {mount.source!r} to be mounted on {mount.target}"
    try:
        real = Path(os.path.realpath(mount.source, strict=True))
        if not (real.is_dir() and real.samefile(mount.source)):
            raise InvalidValue(missing)
    except OSError as error:
        raise InvalidValue(f"{missing}: {error.strerror}") from error
    if not os.access(real, os.R_OK | os.X_OK):
        raise InvalidValue(f"this user may not read the directory {mount.source!r}")
    return real


def _plan(identity: str, spec: SandboxSpec, shared: tuple[Path, ...], *, harness: Path, image: Path) -> BootPlan:
    return BootPlan(
        name=identity,
        harness=harness,
        image=image,
        memory=spec.memory,
        cpus=spec.cpus,
        nested=spec.nested,
        shared=shared,
    )


def _finish_boot(machine: Machine, control: Channel, spec: SandboxSpec, cwd: str) -> requests.Booted:
    deadline = time.monotonic() + _BOOT_TIMEOUT
    try:
        targets = [mount.target for mount in spec.mounts]
        return requests.boot(
            control, writable=spec.writable, hostname="aegis", cwd=cwd, mounts=targets, deadline=deadline
        )
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


def _mend_clock(machine: Machine) -> None:
    """Have the guest's time go on with ours: in software its own may have stood still."""
    deadline = time.monotonic() + _CLOCK_TIMEOUT
    while _set_clock(machine, deadline) > _CLOCK_ERROR:
        pass  # time went on while this was under way


def _set_clock(machine: Machine, deadline: float) -> float:
    """Seconds that it took at most to reach the guest."""
    asked = time.monotonic()
    control = Channel(machine.dial())
    try:
        requests.set_clock(control, deadline=deadline)
    except TimeoutError as error:
        raise GuestNotResponding(f"the guest has not set its clock for {_CLOCK_TIMEOUT:.0f} s") from error
    except (EOFError, OSError):
        return 0.0  # it has ended
    finally:
        control.close()
    return time.monotonic() - asked


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


def _free(directory: Path) -> int:
    about = os.statvfs(directory)
    return about.f_bavail * about.f_frsize


def _check_home(home: Path) -> Check:
    try:
        private(home)
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
