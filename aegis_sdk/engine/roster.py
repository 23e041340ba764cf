"""The sandboxes of an engine: which there are, by ID and by name, and who may boot, end or forget each."""

from __future__ import annotations

import os
import threading
import time

import attrs

from aegis_sdk.drivers.base import Machine
from aegis_sdk.errors import NameTaken, SandboxClosed
from aegis_sdk.guest.channel import Channel
from aegis_sdk.images.cache import OpenImage
from aegis_sdk.model import Network, SandboxInfo, SandboxSpec
from aegis_sdk.network.gateway import Gateway


@attrs.frozen
class Running:
    """A machine, and what is held for it."""

    machine: Machine
    control: Channel
    image: OpenImage
    booted: SandboxInfo
    gateway: Gateway


@attrs.define(eq=False)
class Boot:
    """A boot under way: who ends or removes its sandbox cancels it."""

    over: threading.Event = attrs.field(factory=threading.Event)
    cancelled: bool = False
    machine: Machine | None = None  # once there is one

    def check(self) -> None:
        """SandboxClosed if nobody wants it any more."""
        if self.cancelled:
            raise SandboxClosed("the sandbox was ended while it booted")


@attrs.define(eq=False)
class Entry:
    """One sandbox."""

    id: str
    spec: SandboxSpec
    created: float
    info: SandboxInfo | None = None  # until it has booted once
    running: Running | None = None  # its last machine, which may have ended; none of a kept one of an earlier daemon
    boot: Boot | None = None  # while one is under way
    gone: bool = False

    @property
    def runs(self) -> bool:
        return self.running is not None and self.running.machine.wait(0) is None


class Roster:
    """They; each method is one step that no other thread sees the middle of."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        # A garbage collection may remove a sandbox while its own thread creates one.
        self._lock = threading.RLock()

    def add(self, spec: SandboxSpec) -> tuple[Entry, Boot]:
        """A new sandbox, which nobody but the caller may boot; NameTaken."""
        with self._lock:
            if spec.name is not None and self.find(spec.name):
                raise NameTaken(
                    f"there is a sandbox {spec.name} already",
                    hint="use that one, remove it, or take another name",
                )
            boot = Boot()
            entry = Entry(os.urandom(6).hex(), spec, time.time(), boot=boot)
            self._entries[entry.id] = entry
            return entry, boot

    def restore(self, entry: Entry) -> None:
        """Have a sandbox that was on record."""
        with self._lock:
            self._entries[entry.id] = entry

    def find(self, sandbox: str) -> Entry | None:
        """The sandbox with that ID or name."""
        with self._lock:
            named = (entry for entry in self._entries.values() if entry.spec.name == sandbox)
            return self._entries.get(sandbox) or next(named, None)

    def all(self) -> tuple[Entry, ...]:
        """All of them, in the order in which they were made."""
        with self._lock:
            return tuple(self._entries.values())

    def begin(self, entry: Entry) -> Boot | None:
        """The boot of a sandbox that has ended, the caller's alone; None if it runs, boots or is gone."""
        with self._lock:
            if entry.boot or entry.gone or entry.runs:
                return None
            entry.boot = Boot()
            return entry.boot

    def born(self, boot: Boot, machine: Machine) -> None:
        """Let who cancels the boot end its *machine*."""
        with self._lock:
            boot.machine = machine
        boot.check()

    def settle(self, entry: Entry, boot: Boot, running: Running) -> Running | None:
        """End the boot well; the machine before, which is the caller's to give back. SandboxClosed if cancelled."""
        with self._lock:
            boot.check()
            before, entry.running, entry.info = entry.running, running, running.booted
            running.gateway.update(entry.spec.network)  # which may have changed meanwhile
            return before

    def restrict(self, entry: Entry, network: Network) -> None:
        """Have *network* be what the sandbox may reach, now and in later boots."""
        with self._lock:
            entry.spec = attrs.evolve(entry.spec, network=network)
            if entry.running:
                entry.running.gateway.update(network)

    def over(self, entry: Entry, boot: Boot) -> None:
        """End the boot, however it went: the next one may begin."""
        with self._lock:
            entry.boot = None
        boot.over.set()

    def cancel(self, entry: Entry) -> bool:
        """End the sandbox's boot, if one is under way."""
        with self._lock:
            if not (boot := entry.boot):
                return False
            boot.cancelled = True
        if boot.machine:
            boot.machine.kill()
        return True

    def forget(self, entry: Entry) -> bool:
        """Forget a sandbox, and end its boot; false if somebody else has forgotten it."""
        with self._lock:
            mine = not entry.gone
            entry.gone = True
            self._entries.pop(entry.id, None)
        self.cancel(entry)
        return mine
