"""The engine in this process: its sandboxes are children of the process and end with it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from aegis_sdk.artifacts import Artifacts
from aegis_sdk.config import Config
from aegis_sdk.drivers.base import Driver
from aegis_sdk.drivers.libkrun import Libkrun
from aegis_sdk.drivers.qemu import Qemu
from aegis_sdk.engine import checks, life
from aegis_sdk.engine.base import Report
from aegis_sdk.engine.booting import Booting, Hearers
from aegis_sdk.engine.exposed_sandboxes import ExposedSandboxes
from aegis_sdk.engine.images import LocalImages
from aegis_sdk.engine.late import late
from aegis_sdk.engine.roster import Boot, Entry, Roster
from aegis_sdk.errors import AegisError, InvalidValue, SandboxClosed, SandboxNotFound, StoreFailed, Unavailable
from aegis_sdk.images import harness
from aegis_sdk.images.cache import ImageCache
from aegis_sdk.images.sources import Sources
from aegis_sdk.model import (
    Cause,
    Check,
    Ending,
    ImageInfo,
    LogEntry,
    Network,
    NetworkEvent,
    PluginInfo,
    Port,
    Progress,
    Pruned,
    SandboxInfo,
    SandboxSpec,
)

if TYPE_CHECKING:
    from aegis_sdk.engine.apps import LocalApps
    from aegis_sdk.engine.ingress import Ingress
    from aegis_sdk.engine.journal import Journal
    from aegis_sdk.engine.keeping import Keeping
    from aegis_sdk.engine.secrets import LocalSecrets
    from aegis_sdk.engine.serving import Serving
    from aegis_sdk.engine.tasks import LocalTasks
    from aegis_sdk.plugins import Plugins
    from aegis_sdk.store.database import Database
    from aegis_sdk.store.reader import LogReader

_NOBODY = Hearers()
_GLANCE = 0.5  # Ctrl-C is heard in between, whichever thread the kernel gives it to


class LocalEngine:
    """Sandboxes in this process's own children; with *keeps*, as only the daemon's has it, also some that it keeps."""

    def __init__(self, config: Config, *, keeps: bool = False) -> None:
        self._config = config
        self._artifacts = Artifacts(config.images)
        self._drivers: dict[str, Driver] = {
            driver.name: driver for driver in (Libkrun(config, self._artifacts), Qemu(config, self._artifacts))
        }
        self._sources = Sources(config, lambda: self._plugins.image_sources)
        cache = ImageCache(config.images, self._sources, architecture=harness.architecture())
        self._images = LocalImages(cache, config)
        self._roster = Roster()
        self._exposed = ExposedSandboxes(lambda: self.ingress)
        self._owner = os.getpid()
        self._keeping = self._kept() if keeps else None
        self._held = self._database.hold() if keeps else None
        self._journal = self._continued() if keeps else None
        self._booting = Booting(
            config=config,
            artifacts=self._artifacts,
            drivers=self._drivers,
            images=self._images,
            roster=self._roster,
            journal=self._journal,
        )

    def create(self, spec: SandboxSpec, *, report: Report, hearers: Hearers = _NOBODY) -> SandboxInfo:
        """As every engine does; what *hearers* hear is not in the sandbox's log."""
        if spec.keep and not self._keeping:
            raise InvalidValue(
                "only the daemon can keep a sandbox",
                hint="start it with `aegis up`, and pass engine=aegis.connect(), or set AEGIS_HOST",
            )
        entry, mine = self._roster.add(spec)
        try:
            return self._boot(entry, mine, report, hearers)
        except BaseException:
            self._roster.forget(entry)
            if self._journal:
                self._journal.forget(entry.id)
            raise

    def start(self, sandbox: str, *, report: Report) -> SandboxInfo:
        while entry := self._ours(sandbox):
            if mine := self._roster.begin(entry):
                return self._boot(entry, mine, report, _NOBODY)
            if under_way := entry.boot:
                under_way.over.wait(_GLANCE)
            elif entry.running and not entry.gone:
                return life.described(entry.running, entry.spec, self._exposed.addresses(entry.id))
        raise SandboxNotFound(f"there is no sandbox {sandbox}")

    def sandboxes(self) -> tuple[SandboxInfo, ...]:
        found = (self.info(entry.id) for entry in self._roster.all())
        return tuple(info for info in found if info)

    def dial(self, sandbox: str) -> socket.socket:
        entry = self._ours(sandbox)
        if entry and entry.running and (entry.runs or not entry.spec.keep):
            return entry.running.machine.dial()
        if entry and entry.info:
            raise SandboxClosed(f"sandbox {sandbox} is stopped", hint=f"`aegis sandbox start {sandbox}`")
        raise SandboxClosed(f"sandbox {sandbox} is closed")

    def ending(self, sandbox: str, *, timeout: float) -> Ending | None:
        entry = self._ours(sandbox)
        if entry and entry.running:
            return entry.running.machine.wait(timeout)
        return Ending(cause=Cause.CLOSED)

    def info(self, sandbox: str) -> SandboxInfo | None:
        entry = self._ours(sandbox)
        return life.info(entry, self._exposed.addresses(entry.id)) if entry else None

    def logs(self, sandbox: str) -> str | None:
        entry = self._ours(sandbox)
        if entry and entry.running:
            return entry.running.machine.logs()
        return "" if entry and entry.info else None

    def expose(self, sandbox: str, port: Port) -> str:
        entry = self._ours(sandbox)
        if not (entry and entry.running):
            raise SandboxClosed(f"sandbox {sandbox} is closed")
        where = self._exposed.expose(entry.id, entry.running.machine, port)
        self._note(entry, f"its port {port.label} is reached at {where}")
        return where

    def conceal(self, sandbox: str, port: Port) -> None:
        if entry := self._ours(sandbox):
            self._exposed.conceal(entry.id, port)

    def pause(self, sandbox: str) -> None:
        entry = self._ours(sandbox)
        if entry and entry.running:
            entry.running.machine.pause()
            self._note(entry, "it stands still")

    def resume(self, sandbox: str) -> None:
        entry = self._ours(sandbox)
        if entry and entry.running:
            entry.running.machine.resume()
            life.mend_clock(entry.running.machine)
            self._note(entry, "it goes on")

    def stop(self, sandbox: str, *, grace: float) -> None:
        entry = self._ours(sandbox)
        if entry and not self._roster.cancel(entry) and entry.running:
            life.stop(entry.running.machine, grace)
            self._exposed.part(entry.id)

    def remove(self, sandbox: str) -> Ending | None:
        entry = self._roster.find(sandbox)
        if not entry or not self._roster.forget(entry):
            return None
        try:
            return life.close(entry.running) if entry.running else None
        finally:
            self._exposed.part(entry.id)
            if self._keeping:
                self._keeping.delete(entry)
            if self._journal:
                self._journal.forget(entry.id)

    def network_events(self, sandbox: str) -> tuple[NetworkEvent, ...]:
        entry = self._known(sandbox)
        return entry.running.gateway.events() if entry.running else ()

    def update_network(self, sandbox: str, network: Network) -> SandboxInfo:
        entry = self._known(sandbox)
        self._roster.restrict(entry, network)
        if not (info := life.info(entry, self._exposed.addresses(entry.id))):
            raise SandboxClosed(f"sandbox {sandbox} has not booted yet")
        if self._keeping:
            self._keeping.save(entry, info)
            self._off_record(entry)
        return info

    def sandbox_logs(
        self, sandbox: str, *, follow: bool = False, since: int = 0, tail: int | None = None
    ) -> Iterator[LogEntry]:
        return iter(self.sandbox_reader(sandbox, follow=follow, since=since, tail=tail))

    def sandbox_reader(
        self, sandbox: str, *, follow: bool = False, since: int = 0, tail: int | None = None
    ) -> LogReader:
        """The same, for who waits for many things at once."""
        entry = self._known(sandbox)
        if not self._journal:
            raise Unavailable(
                "only the daemon keeps the logs of sandboxes",
                hint="logs() has what a console has said last; `aegis up` starts a daemon",
            )
        return self._journal.reader(entry.id, follow=follow, since=since, tail=tail)

    def close(self, *, again: bool = False) -> None:
        """End all tasks and sandboxes; with *again*, the kept that run are marked to be started by the next daemon."""
        if "tasks" in self.__dict__:  # else nobody has asked for them
            self.tasks.close()
        if "serving" in self.__dict__:
            self.serving.close()
        entries = self._roster.all()
        if self._keeping:
            self._keeping.want(entry for entry in entries if again and entry.runs)
        with ExitStack() as each:  # one that cannot be ended keeps none of the others
            for entry in entries:
                each.callback(self._put_down if entry.spec.keep else self.remove, entry.id)
            if "ingress" in self.__dict__:
                each.callback(self.ingress.close)
            if self._held:
                each.callback(self._held.close)

    def wanted(self) -> tuple[str, ...]:
        """The IDs of the kept sandboxes that the daemon before this one was told to have started again."""
        return self._keeping.wanted() if self._keeping else ()

    def pull_image(self, reference: str, *, pull: str, report: Report) -> ImageInfo:
        return self._images.pull(reference, pull=pull, report=report)

    def import_image(self, reference: str, *, name: str, replace: bool, report: Report) -> ImageInfo:
        return self._images.import_(reference, name=name, replace=replace, report=report)

    def image(self, reference: str) -> ImageInfo:
        return self._images.get(reference)

    def images(self) -> tuple[ImageInfo, ...]:
        return self._images.all()

    def remove_image(self, reference: str, *, digest: str) -> None:
        self._images.remove(reference, digest=digest)

    def prune_images(self, *, older_than: float | None, unused: bool) -> Pruned:
        with suppress(StoreFailed):  # then all that is kept stays
            self.apps.tidy()
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
            *checks.of_store(self.secrets.records),
        )

    def mend(self) -> tuple[str, ...]:
        return tuple(done for driver in self._drivers.values() for done in driver.mend())

    @late
    def apps(self) -> LocalApps:
        from aegis_sdk.engine.apps import LocalApps
        from aegis_sdk.engine.releases import LocalReleases
        from aegis_sdk.store.apps import AppRecords
        from aegis_sdk.store.releases import ReleaseRecords

        releases = LocalReleases(self._images, ReleaseRecords(self._database))
        return LocalApps(self, AppRecords(self._database), releases, self._config.workspaces)

    @late
    def ingress(self) -> Ingress:
        from aegis_sdk.engine.ingress import Ingress
        from aegis_sdk.store.instances import InstanceRecords

        records, exact = InstanceRecords(self._database), self._keeping is not None
        return Ingress(self._config, policies=lambda: self._plugins.routing_policies, records=records, exact=exact)

    @late
    def secrets(self) -> LocalSecrets:
        from aegis_sdk.engine.secrets import LocalSecrets
        from aegis_sdk.store.secrets import SecretRecords
        from aegis_sdk.store.vault import KeyFile

        return LocalSecrets(SecretRecords(self._database, KeyFile(self._config.key)))

    @late
    def tasks(self) -> LocalTasks:
        from aegis_sdk.engine.tasks import LocalTasks
        from aegis_sdk.store.tasks import TaskRecords

        return LocalTasks(self, TaskRecords(self._database, self._config.owners), self._config)

    @late
    def serving(self) -> Serving:
        """What serves its apps, and the way there."""
        from aegis_sdk.engine.placements import OnRecord, Remembered
        from aegis_sdk.engine.serving import Serving
        from aegis_sdk.store.instances import InstanceRecords

        keeps = self._keeping is not None
        placements = OnRecord(InstanceRecords(self._database)) if keeps else Remembered()
        return Serving(self, self._config, placements=placements, keeps=keeps)

    @late
    def _plugins(self) -> Plugins:
        # Late: pluggy, and looking for what is installed, would cost each process a tenth of a second.
        from aegis_sdk.plugins import Plugins

        return Plugins.load(self._config)

    @late
    def _database(self) -> Database:
        from aegis_sdk.store.database import Database

        return Database(self._config.database)

    def _kept(self) -> Keeping:
        from aegis_sdk.engine.keeping import Keeping
        from aegis_sdk.store.sandboxes import SandboxRecords

        keeping = Keeping(SandboxRecords(self._database))
        keeping.restore(self._roster)
        return keeping

    def _continued(self) -> Journal:
        from aegis_sdk.engine.journal import Journal

        return Journal(self._config.logs / "sandboxes", {entry.id for entry in self._roster.all()})

    def _note(self, entry: Entry, text: str) -> None:
        if self._journal:
            self._journal.note(entry.id, text)

    def _ours(self, sandbox: str) -> Entry | None:
        if os.getpid() != self._owner:
            raise SandboxClosed(f"sandbox {sandbox} belongs to the process that made it, not to its forked child")
        return self._roster.find(sandbox)

    def _known(self, sandbox: str) -> Entry:
        if entry := self._ours(sandbox):
            return entry
        raise SandboxNotFound(f"there is no sandbox {sandbox}")

    def _put_down(self, sandbox: str) -> None:
        self.stop(sandbox, grace=0.0)
        if (entry := self._ours(sandbox)) and entry.running:
            life.close(entry.running)

    def _boot(self, entry: Entry, mine: Boot, report: Report, hearers: Hearers) -> SandboxInfo:
        """Boot a sandbox; what its last machine has held is given back only then."""

        def heard(progress: Progress) -> None:
            mine.check()
            report(progress)

        try:
            with ExitStack() as undo:
                running = self._booting.boot(entry, mine, undo, report=heard, hearers=hearers)
                undo.callback(self._off_record, entry)
                if self._keeping:
                    self._keeping.save(entry, running.booted)
                before = self._roster.settle(entry, mine, running)
                undo.pop_all()
        except AegisError:
            mine.check()  # what went wrong is then that it was ended
            raise
        finally:
            self._roster.over(entry, mine)
        if before:
            life.close(before)
        self._note(entry, f"it has booted in {sum(running.booted.phases.values()):.1f} s")
        return running.booted

    def _off_record(self, entry: Entry) -> None:
        """Take what was removed while it booted off the record."""
        if self._keeping and (entry.gone or not entry.info):
            self._keeping.delete(entry)
