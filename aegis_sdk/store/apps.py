"""Apps on record."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import attrs

from aegis_sdk.errors import AppNotFound, NameTaken
from aegis_sdk.model import AppInfo
from aegis_sdk.store.database import Database

_NAME_OR_ID = re.compile(r"[a-z0-9_-]{1,63}")
_SHOWN = 80


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
    row = None
    if isinstance(app, str) and _NAME_OR_ID.fullmatch(app):
        # No name is an ID: an ID has an underscore.
        row = connection.execute("SELECT id, name, created FROM apps WHERE ? IN (id, name)", (app,)).fetchone()
    if row is None:
        raise AppNotFound(f"there is no app {repr(app)[:_SHOWN]}", hint="`aegis app list` shows those that there are")
    return row["id"], row["name"], row["created"]
