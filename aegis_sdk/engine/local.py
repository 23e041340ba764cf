"""The engine in this process: its sandboxes are children of the process and end with it."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import attrs

from aegis_sdk.artifacts import Artifacts, private
from aegis_sdk.config import Config
from aegis_sdk.drivers.base import Driver, Machine
from aegis_sdk.drivers.choice import Choice, choose
from aegis_sdk.drivers.libkrun import Libkrun
from aegis_sdk.drivers.qemu import Qemu
from aegis_sdk.engine import boot, checks, life
from aegis_sdk.engine.base import Report
from aegis_sdk.errors import (
    AegisError,
    ImageFailed,
    SandboxClosed,
)
from aegis_sdk.guest.channel import Channel
from aegis_sdk.images import harness
from aegis_sdk.images.cache import ImageCache, OpenImage
from aegis_sdk.images.sources import Sources
from aegis_sdk.model import (
    Cause,
    Check,
    Ending,
    ImageInfo,
    PluginInfo,
    Pruned,
    SandboxInfo,
    SandboxSpec,
)

if TYPE_CHECKING:
    from aegis_sdk.plugins import Plugins

_NOTICE = (
    "aegis: no hardware virtualization here, so guests run in software: a boot takes a second or two"
    " (`aegis doctor` says why; this is said once)\n"
)


@attrs.frozen
class _Running:
    machine: Machine
    control: Channel
    image: OpenImage
    booted: SandboxInfo


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
        shared = tuple(map(boot.shared, spec.mounts))
        choice = self._choose(spec)
        driver = choice.driver
        self._notice(driver)
        phases = boot.Phases()
        identity = os.urandom(6).hex()
        with ExitStack() as undo:
            with phases.measure("disks"), self._in_home():
                image = undo.enter_context(closing(self._open(spec, report)))
                disks = {"image": image.disk.path, "harness": harness.disk(self._artifacts)}
            with phases.measure("monitor"), boot.starting():
                machine = driver.boot(boot.plan(identity, spec, shared, **disks))
            undo.callback(life.end, machine)
            control = Channel(machine.dial())
            undo.callback(control.close)
            with phases.measure("kernel"):
                booted = boot.finish(machine, control, spec, image.record.config.cwd)
            phases.split("kernel", booted.phases)
            info = boot.described(
                identity, spec, choice, machine, config=image.record.config, booted=booted, phases=phases
            )
            with self._lock:
                self._running[identity] = _Running(machine, control, image, info)
            undo.pop_all()
        return info

    def dial(self, sandbox: str) -> socket.socket:
        if running := self._ours(sandbox):
            return running.machine.dial()
        raise SandboxClosed(f"sandbox {sandbox} is closed")

    def ending(self, sandbox: str, *, timeout: float) -> Ending | None:
        if running := self._ours(sandbox):
            return running.machine.wait(timeout)
        return Ending(cause=Cause.CLOSED)

    def info(self, sandbox: str) -> SandboxInfo | None:
        running = self._ours(sandbox)
        return life.info(running.machine, running.booted) if running else None

    def logs(self, sandbox: str) -> str | None:
        running = self._ours(sandbox)
        return running.machine.logs() if running else None

    def pause(self, sandbox: str) -> None:
        if running := self._ours(sandbox):
            running.machine.pause()

    def resume(self, sandbox: str) -> None:
        if running := self._ours(sandbox):
            running.machine.resume()
            life.mend_clock(running.machine)

    def stop(self, sandbox: str, *, grace: float) -> None:
        if running := self._ours(sandbox):
            life.stop(running.machine, grace)

    def remove(self, sandbox: str) -> Ending | None:
        with self._lock:
            running = self._running.pop(sandbox, None)
        if not running:
            return None
        try:
            return life.end(running.machine, Cause.CLOSED)
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
            *checks.of_drivers(self._config.driver, self._drivers),
            harness.check(),
            *sources,
            *checks.of_plugins(self._plugins.infos),
            checks.of_home(self._config.home),
        )

    def mend(self) -> tuple[str, ...]:
        return tuple(done for driver in self._drivers.values() for done in driver.mend())

    @cached_property
    def _plugins(self) -> Plugins:
        # Late: pluggy, and looking for what is installed, would cost each process a tenth of a second.
        from aegis_sdk.plugins import Plugins

        return Plugins.load(self._config)

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
