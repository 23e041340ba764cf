"""Instances on record: which releases serve which apps, and the ports of this machine that lead to them."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence

import attrs

from aegis_sdk.errors import ReleaseNotFound
from aegis_sdk.store.database import Database

_COLUMNS = "id, app, release, place, created"


@attrs.frozen(kw_only=True)
class InstanceRecord:
    """The one instance of *release* of *app*, both IDs; *place* is its turn among those that serve, from 0."""

    id: str
    app: str
    release: str
    place: int | None
    created: float


@attrs.frozen
class InstanceRecords:
    """Those of one home; apps and releases are named by their IDs."""

    _database: Database

    def add_or_get(self, app: str, release: str) -> InstanceRecord:
        """The instance of a release, which is put on record if it is not; ReleaseNotFound if the release has gone."""
        with self._database.write() as rows:
            if not rows.execute("SELECT 1 FROM releases WHERE (app, id) = (?, ?)", (app, release)).fetchone():
                raise ReleaseNotFound(f"there is no release {release} any more")
            rows.execute(
                "INSERT INTO instances (id, app, release, created) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (os.urandom(6).hex(), app, release, time.time()),
            )
            return _found(rows, "WHERE (app, release) = (?, ?)", app, release)[0]

    def serve(self, app: str, instances: Sequence[str]) -> None:
        """Have an app be served by these instances, in that order, and by no others; by none if that is empty."""
        with self._database.write() as rows:
            rows.execute("UPDATE instances SET place = NULL WHERE app = ?", (app,))
            rows.executemany(
                "UPDATE instances SET place = ? WHERE (id, app) = (?, ?)",
                [(place, instance, app) for place, instance in enumerate(instances)],
            )
            rows.execute("UPDATE instances SET served = ? WHERE (app, place) = (?, 0)", (time.time(), app))

    def served(self) -> tuple[InstanceRecord, ...]:
        """Those that serve, of all apps, each app's in their order."""
        with self._database.read() as rows:
            return _found(rows, "WHERE place NOT NULL ORDER BY app, place")

    def of(self, app: str) -> tuple[InstanceRecord, ...]:
        """All of an app, also those that do not serve it, in the order in which they were made."""
        with self._database.read() as rows:
            return _found(rows, "WHERE app = ? ORDER BY rowid", app)

    def last(self, app: str) -> InstanceRecord | None:
        """The one that serves an app by default, or did so last; None if it never was served."""
        with self._database.read() as rows:
            found = _found(rows, "WHERE app = ? AND served NOT NULL ORDER BY place = 0 DESC, served DESC LIMIT 1", app)
        return found[0] if found else None

    def local_port(self, app: str, port: int) -> int | None:
        """The port of this machine that is remembered for *port* of an app's guests."""
        with self._database.read() as rows:
            row = rows.execute("SELECT local FROM local_ports WHERE (app, port) = (?, ?)", (app, port)).fetchone()
        return int(row["local"]) if row else None

    def remember(self, app: str, port: int, local: int) -> bool:
        """Remember *local* for *port* of an app; false if it is another's, or the app has gone."""
        with self._database.write() as rows:
            taken = rows.execute(
                "SELECT 1 FROM local_ports WHERE local = ? AND (app, port) <> (?, ?)", (local, app, port)
            )
            there = rows.execute("SELECT 1 FROM apps WHERE id = ?", (app,))
            if taken.fetchone() or not there.fetchone():
                return False
            rows.execute("REPLACE INTO local_ports (app, port, local) VALUES (?, ?, ?)", (app, port, local))
        return True


def _found(rows: sqlite3.Connection, which: str, *values: str) -> tuple[InstanceRecord, ...]:
    found = rows.execute(f"SELECT {_COLUMNS} FROM instances {which}", values).fetchall()  # noqa: S608  # ours
    return tuple(InstanceRecord(**row) for row in found)
