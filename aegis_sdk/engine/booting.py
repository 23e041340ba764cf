"""Booting the sandboxes of an engine in this process: with which driver, disks, and way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import attrs

from aegis_sdk.artifacts import Artifacts
from aegis_sdk.config import Config
from aegis_sdk.drivers.base import Driver, Witness
from aegis_sdk.drivers.choice import choose
from aegis_sdk.engine import boot, life, notice
from aegis_sdk.engine.base import Report
from aegis_sdk.engine.images import LocalImages
from aegis_sdk.engine.roster import Boot, Entry, Roster, Running
from aegis_sdk.guest.channel import Channel
from aegis_sdk.images import harness
from aegis_sdk.model import NetworkEvent
from aegis_sdk.network.gateway import Gateway

if TYPE_CHECKING:
    from aegis_sdk.engine.journal import Journal

Tell = Callable[[NetworkEvent], None]


@attrs.frozen(kw_only=True)
class Hearers:
    """Who hears of a guest, in the place of its sandbox's log: of its console, and of what it tries to reach."""

    witness: Witness | None = None
    tell: Tell | None = None


@attrs.frozen(kw_only=True)
class Booting:
    """Has what it takes for a boot."""

    config: Config
    artifacts: Artifacts
    drivers: Mapping[str, Driver]
    images: LocalImages
    roster: Roster
    journal: Journal | None

    def boot(self, entry: Entry, mine: Boot, undo: ExitStack, *, report: Report, hearers: Hearers) -> Running:
        """A machine for *entry*; what it holds is given back by *undo*."""
        spec = entry.spec
        shared = tuple(map(boot.shared, spec.mounts))
        wanted = spec.driver or self.config.driver
        choice = choose(wanted, self.drivers, nested=spec.nested, shared=bool(spec.mounts))
        notice.said(self.config, choice.driver)
        phases = boot.Phases()
        with phases.measure("disks"), self.images.in_words():
            image = undo.enter_context(closing(self.images.open(spec, report)))
            disks = {"image": image.disk.path, "harness": harness.disk(self.artifacts)}
        with phases.measure("monitor"), boot.starting():
            hearers = self._completed(entry, hearers)
            gateway = Gateway(spec.network, environ=self.config.environ, on_event=hearers.tell)
            plan = boot.plan(entry.id, spec, shared, **disks, witness=hearers.witness, outlet=gateway)
            machine = choice.driver.boot(plan)
        undo.callback(life.end, machine)
        self.roster.born(mine, machine)
        control = Channel(machine.dial())
        undo.callback(control.close)
        with phases.measure("kernel"):
            booted = boot.finish(machine, control, spec, image.record.config.cwd)
        phases.split("kernel", booted.phases)
        info = boot.described(entry, choice, machine, config=image.record.config, booted=booted, phases=phases)
        return Running(machine, control, image, info, gateway)

    def _completed(self, entry: Entry, hearers: Hearers) -> Hearers:
        """*hearers*, and the sandbox's own log for what they do not hear, if there is one."""
        if not self.journal or hearers.witness:
            return hearers
        witness = self.journal.witness(entry.id)
        return Hearers(witness=witness, tell=hearers.tell or self.journal.attempts(entry.id).tell)
