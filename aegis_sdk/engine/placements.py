"""Which releases serve which apps: what an engine has to remember of it, and one that remembers it to its end only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

import attrs

from aegis_sdk.store.instances import InstanceRecords


class Placements(Protocol):
    """They, by the IDs of apps and releases."""

    def identity(self, app: str, release: str) -> str:
        """The ID of the instance that serves a release of an app, the same for ever."""

    def find(self, app: str, release: str) -> str | None:
        """The same, if it has ever been asked for."""

    def put(self, app: str, releases: tuple[str, ...]) -> None:
        """Have an app be served by *releases*, in that order, and by no other."""

    def served(self) -> Mapping[str, tuple[str, ...]]:
        """The releases that serve each app."""

    def last(self, app: str) -> str | None:
        """The release that serves an app by default, or did so last; None if it never was served."""

    def instances(self, app: str) -> tuple[str, ...]:
        """The IDs of all instances that an app has had."""


@attrs.frozen
class Remembered:
    """Those of an engine whose instances end with it."""

    _identities: dict[tuple[str, str], str] = attrs.field(factory=dict)
    _served: dict[str, tuple[str, ...]] = attrs.field(factory=dict)
    _last: dict[str, str] = attrs.field(factory=dict)

    def identity(self, app: str, release: str) -> str:
        return self._identities.setdefault((app, release), os.urandom(6).hex())

    def find(self, app: str, release: str) -> str | None:
        return self._identities.get((app, release))

    def put(self, app: str, releases: tuple[str, ...]) -> None:
        self._served[app] = releases
        if releases:
            self._last[app] = releases[0]

    def served(self) -> Mapping[str, tuple[str, ...]]:
        return dict(self._served)

    def last(self, app: str) -> str | None:
        return self._last.get(app)

    def instances(self, app: str) -> tuple[str, ...]:
        return tuple(identity for (of, _), identity in self._identities.items() if of == app)


@attrs.frozen
class OnRecord:
    """Those on record in a home."""

    _records: InstanceRecords

    def identity(self, app: str, release: str) -> str:
        return self._records.add_or_get(app, release).id

    def find(self, app: str, release: str) -> str | None:
        return next((record.id for record in self._records.of(app) if record.release == release), None)

    def put(self, app: str, releases: tuple[str, ...]) -> None:
        self._records.serve(app, [self.identity(app, release) for release in releases])

    def served(self) -> Mapping[str, tuple[str, ...]]:
        served: dict[str, tuple[str, ...]] = {}
        for record in self._records.served():
            served[record.app] = (*served.get(record.app, ()), record.release)
        return served

    def last(self, app: str) -> str | None:
        found = self._records.last(app)
        return found.release if found else None

    def instances(self, app: str) -> tuple[str, ...]:
        return tuple(record.id for record in self._records.of(app))
