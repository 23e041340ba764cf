"""Releases on record: they are added, and go with their apps, but none ever changes."""

from __future__ import annotations

import sqlite3

import attrs

from aegis_sdk.errors import NameTaken, ReleaseNotFound
from aegis_sdk.model import no_app
from aegis_sdk.store.database import Database

_SHOWN = 80
_COLUMNS = "id, app, number, label, created, spec"
_INSERT = """
    INSERT INTO releases (id, app, number, label, created, spec)
    SELECT :id, :app, ifnull(max(number), 0) + 1, :label, :created, :spec FROM releases WHERE app = :app
    RETURNING number
"""


@attrs.frozen(kw_only=True)
class ReleaseRecord:
    """One of them: *spec* as JSON, which names its image by digest; *number* is known when it is on record."""

    id: str
    app: str
    number: int = 0
    label: str | None
    created: float
    spec: str


@attrs.frozen
class ReleaseRecords:
    """The releases of the apps of a home, which are named by their IDs here."""

    _database: Database

    def add(self, record: ReleaseRecord) -> ReleaseRecord:
        """Put a new one on record, as the next of its app; NameTaken, AppNotFound."""
        with self._database.write() as rows:
            if not rows.execute("SELECT 1 FROM apps WHERE id = ?", (record.app,)).fetchone():
                raise no_app(record.app)
            try:
                (number,) = rows.execute(_INSERT, attrs.asdict(record)).fetchone()
            except sqlite3.IntegrityError as error:
                raise _label_taken(record.label) from error
        return attrs.evolve(record, number=number)

    def get(self, app: str, release: str) -> ReleaseRecord:
        """The release of an app with that label or ID; ReleaseNotFound."""
        with self._database.read() as rows:
            found = rows.execute(
                f"SELECT {_COLUMNS} FROM releases WHERE app = ? AND ? IN (id, label) ORDER BY id = ? DESC",  # noqa: S608
                (app, release, release),
            ).fetchone()
        if not found:  # a label may be anything
            raise ReleaseNotFound(
                f"the app has no release {repr(release)[:_SHOWN]}", hint=f"`aegis app releases {app}` shows them"
            )
        return ReleaseRecord(**found)

    def all(self, app: str) -> tuple[ReleaseRecord, ...]:
        """Those of an app, the newest last."""
        with self._database.read() as rows:
            found = rows.execute(
                f"SELECT {_COLUMNS} FROM releases WHERE app = ? ORDER BY number",  # noqa: S608
                (app,),
            ).fetchall()
        return tuple(ReleaseRecord(**row) for row in found)

    def ids(self) -> frozenset[str]:
        """Those of all releases."""
        with self._database.read() as rows:
            return frozenset(row["id"] for row in rows.execute("SELECT id FROM releases").fetchall())


def _label_taken(label: str | None) -> NameTaken:
    return NameTaken(f"the app has a release {label!r} already", hint="a release never changes: choose another label")
