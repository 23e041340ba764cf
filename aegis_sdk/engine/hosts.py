"""Who answers what the router passes on: all that is placed behind it, by instance."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import attrs

from aegis_sdk.errors import NotServed
from aegis_sdk.routing.base import Apps, ServedApp, ServedInstance


class Host(Protocol):
    """One guest that can be reached: an instance, or what is awake as long as it is there, such as a task."""

    def served(self) -> ServedInstance:
        """What policies see of it; its ID never changes. From any thread, and at once."""

    def hold(self) -> bool:
        """Count one more user of it, awake or not; whether it is awake, and then stays so until ``let_go``.

        In the router's thread, so at once.
        """

    def let_go(self) -> None:
        """Count one user less; likewise."""

    def wake(self) -> None:
        """Return when it is awake, or say why it cannot be; may take its time."""

    def dial(self, port: int, *, timeout: float) -> socket.socket:
        """A connection to *port* of 127.0.0.1 in it; Asleep if it is not awake."""


@attrs.define(eq=False)
class _Placed:
    id: str
    name: str
    hosts: Mapping[str, Host]  # by the ID of the instance
    task: bool
    changes: int = 0

    def served(self) -> ServedApp:
        instances = tuple(host.served() for host in self.hosts.values())
        return ServedApp(id=self.id, name=self.name, instances=instances, task=self.task)


class Hosts:
    """They, as the router's ``Backends``. Nothing of theirs is called under its lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._placed: dict[str, _Placed] = {}  # by the ID of the app
        self._hosts: dict[str, Host] = {}  # by the ID of the instance
        #: One for each user of an instance, None for who came when it was gone: let go of is who was held.
        self._held: dict[str, list[Host | None]] = {}
        self._snapshot: Apps = {}

    @property
    def any(self) -> bool:
        """Whether anything can be reached."""
        with self._lock:
            return any(placed.hosts for placed in self._placed.values())

    def place(self, app: str, name: str, hosts: Sequence[Host], *, task: bool) -> tuple[str, ...]:
        """Have *app* be served by *hosts*; the instances that it was served by, to be forgotten."""
        by_id = {host.served().id: host for host in hosts}
        with self._lock:
            before = self._placed.get(app)
            self._placed[app] = _Placed(app, name, by_id, task)
            self._hosts |= by_id
        self._show(app)
        return tuple(before.hosts) if before else ()

    def take_away(self, app: str) -> tuple[str, ...]:
        """Have no *app*; the instances that it was served by, to be forgotten."""
        with self._lock:
            before = self._placed.pop(app, None)
        self._show(app)
        return tuple(before.hosts) if before else ()

    def forget(self, instances: Iterable[str]) -> None:
        """Know those *instances* no more that are placed nowhere, but for their users."""
        with self._lock:
            placed = {instance for each in self._placed.values() for instance in each.hosts}
            for instance in set(instances) - placed:
                self._hosts.pop(instance, None)

    def changed(self, app: str) -> None:
        """Ask the hosts of *app* anew what they are."""
        with self._lock:
            if placed := self._placed.get(app):
                placed.changes += 1
        self._show(app)

    def name(self, app: str) -> str:
        """What *app* was placed as; NotServed if it was not."""
        with self._lock:
            if placed := self._placed.get(app):
                return placed.name
        raise NotServed(f"{app} has not been placed behind the router")

    def snapshot(self) -> Apps:
        return self._snapshot

    def hold(self, instance: str) -> bool:
        with self._lock:
            users = self._held.setdefault(instance, [])
            host = self._hosts.get(instance) or (users[-1] if users else None)
            users.append(host)
        return host.hold() if host else False

    def let_go(self, instance: str) -> None:
        with self._lock:
            users = self._held[instance]
            host = users.pop()
            if not users:
                del self._held[instance]
        if host:
            host.let_go()

    def wake(self, instance: str) -> None:
        self._find(instance).wake()

    def dial(self, instance: str, port: int, *, timeout: float) -> socket.socket:
        return self._find(instance).dial(port, timeout=timeout)

    def _find(self, instance: str) -> Host:
        with self._lock:
            users = self._held.get(instance)
            host = self._hosts.get(instance) or (users[-1] if users else None)
        if host is None:
            raise NotServed(f"the instance {instance} serves no more")
        return host

    def _show(self, app: str) -> None:
        while not self._shown(app):
            pass  # it changed while it was looked at

    def _shown(self, app: str) -> bool:
        with self._lock:
            placed = self._placed.get(app)
            changes = placed.changes if placed else 0
        served = placed.served() if placed else None
        with self._lock:
            if self._placed.get(app) is not placed or (placed and placed.changes != changes):
                return False
            others = {name: each for name, each in self._snapshot.items() if each.id != app}
            self._snapshot = {**others, served.name: served} if served else others
        return True
