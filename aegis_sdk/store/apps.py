"""Apps on record."""

from __future__ import annotations

import sqlite3

import attrs

from aegis_sdk.errors import NameTaken
from aegis_sdk.model import app_reference, no_app
from aegis_sdk.store.database import Database


@attrs.frozen(kw_only=True)
class AppRecord:
    """One of them; *spec*, what its next release is to be, as JSON."""

    id: str
    name: str
    created: float
    spec: str


@attrs.frozen
class AppRecords:
    """The apps of a home."""

    _database: Database

    def add(self, record: AppRecord) -> None:
        """Put a new one on record; NameTaken."""
        with self._database.write() as rows:
            try:
                rows.execute(
                    "INSERT INTO apps (id, name, created, spec) VALUES (:id, :name, :created, :spec)",
                    attrs.asdict(record),
                )
            except sqlite3.IntegrityError as error:
                raise NameTaken(f"there is an app {record.name} already", hint="`aegis app list` shows them") from error

    def update(self, app: str, spec: str) -> AppRecord:
        """Give the one of that name or ID another *spec*; AppNotFound."""
        with self._database.write() as rows:
            found = find(rows, app)
            rows.execute("UPDATE apps SET spec = ? WHERE id = ?", (spec, found.id))
        return attrs.evolve(found, spec=spec)

    def get(self, app: str) -> AppRecord:
        """The one of that name or ID; AppNotFound."""
        with self._database.read() as rows:
            return find(rows, app)

    def all(self) -> tuple[AppRecord, ...]:
        """They, in the order of their names."""
        with self._database.read() as rows:
            found = rows.execute("SELECT id, name, created, spec FROM apps ORDER BY name").fetchall()
        return tuple(AppRecord(**row) for row in found)

    def remove(self, id: str) -> None:
        """Forget one, with its secrets, releases, instances and ports; fine if it is not there."""
        with self._database.write() as rows:
            rows.execute("DELETE FROM apps WHERE id = ?", (id,))


def find(rows: sqlite3.Connection, app: str) -> AppRecord:
    """The app that *app*, a name or an ID, means; AppNotFound."""
    # No name is an ID: an ID has an underscore.
    found = rows.execute("SELECT id, name, created, spec FROM apps WHERE ? IN (id, name)", (app_reference(app),))
    if (row := found.fetchone()) is None:
        raise no_app(app)
    return AppRecord(**row)
