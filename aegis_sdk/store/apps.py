"""Apps on record."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import attrs

from aegis_sdk.errors import NameTaken
from aegis_sdk.model import AppInfo, app_reference, no_app
from aegis_sdk.store.database import Database


@attrs.frozen
class AppRecords:
    """The apps of a home, each with a workspace below *workspaces*."""

    database: Database
    workspaces: Path

    def add(self, id: str, name: str, *, created: float) -> AppInfo:
        """A new one on record; NameTaken."""
        with self.database.write() as connection:
            try:
                connection.execute("INSERT INTO apps (id, name, created) VALUES (?, ?, ?)", (id, name, created))
            except sqlite3.IntegrityError as error:
                raise NameTaken(f"there is an app {name} already", hint="`aegis app list` shows them") from error
        return self._info(id, name, created)

    def get(self, app: str) -> AppInfo:
        """The one of that name or ID; AppNotFound."""
        with self.database.read() as connection:
            return self._info(*find(connection, app))

    def all(self) -> tuple[AppInfo, ...]:
        """They, in the order of their names."""
        with self.database.read() as connection:
            rows = connection.execute("SELECT id, name, created FROM apps ORDER BY name").fetchall()
        return tuple(self._info(*row) for row in rows)

    def remove(self, id: str) -> None:
        """Forget one, and its secrets; fine if it is not there."""
        with self.database.write() as connection:
            connection.execute("DELETE FROM apps WHERE id = ?", (id,))

    def _info(self, id: str, name: str, created: float) -> AppInfo:
        return AppInfo(id=id, name=name, created=created, workspace=str(self.workspaces / id))


def find(connection: sqlite3.Connection, app: str) -> tuple[str, str, float]:
    """ID, name and time of the app that *app*, a name or an ID, means; AppNotFound."""
    # No name is an ID: an ID has an underscore.
    found = connection.execute("SELECT id, name, created FROM apps WHERE ? IN (id, name)", (app_reference(app),))
    if (row := found.fetchone()) is None:
        raise no_app(app)
    return row["id"], row["name"], row["created"]
