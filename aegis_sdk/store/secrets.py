"""Secrets on record, encrypted."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import attrs

from aegis_sdk.errors import SecretNotFound, SecretUnreadable, StoreFailed
from aegis_sdk.model import SecretInfo
from aegis_sdk.store import apps
from aegis_sdk.store.database import Database
from aegis_sdk.store.vault import Key, KeyFile, Sealed, Tampered

_ALL = """
    SELECT secrets.rowid AS row, secrets.*, apps.name AS app_name FROM secrets LEFT JOIN apps ON apps.id = secrets.app
"""
_OF = " WHERE secrets.app IS ? ORDER BY secrets.name"
# Those of all apps come first, and so go under the app's own.
_FOR = _ALL + " WHERE secrets.app IS NULL OR secrets.app = ? ORDER BY secrets.name, secrets.app"
_SET = """
    INSERT INTO secrets (app, name, created, updated, key, nonce, ciphertext) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (ifnull(app, ''), name) DO UPDATE SET
        updated = excluded.updated, key = excluded.key, nonce = excluded.nonce, ciphertext = excluded.ciphertext
    RETURNING *
"""
_RESEAL = "UPDATE secrets SET key = ?, nonce = ?, ciphertext = ? WHERE rowid = ?"


@attrs.frozen
class SecretRecords:
    """The secrets of a home, each in a scope: an app, named by its name or ID, or None for all apps."""

    database: Database
    keys: KeyFile

    def set(self, name: str, value: bytes, *, app: str | None, now: float) -> SecretInfo:
        """Keep one in the place of that name; AppNotFound."""
        with self.database.write() as connection:
            scope = _scope(connection, app)
            sealed = self.keys.current().seal(value, place=_place(scope, name))
            values = (scope, name, now, now, sealed.key, sealed.nonce, sealed.ciphertext)
            return _info(connection.execute(_SET, values).fetchone())

    def all(self, *, app: str | None) -> tuple[SecretInfo, ...]:
        """They, in the order of their names; AppNotFound."""
        with self.database.read() as connection:
            return tuple(map(_info, connection.execute(_ALL + _OF, (_scope(connection, app),))))

    def delete(self, name: str, *, app: str | None) -> None:
        """Forget one; SecretNotFound."""
        with self.database.write() as connection:
            scope = _scope(connection, app)
            gone = connection.execute("DELETE FROM secrets WHERE app IS ? AND name = ?", (scope, name)).rowcount
        if not gone:
            raise SecretNotFound(f"there is no secret {name} of {'all apps' if app is None else f'app {app}'}")

    def values(self, app: str) -> dict[str, bytes]:
        """What an app's guests get: the values of all apps, and over them its own; SecretUnreadable."""
        try:
            with self.database.read() as connection:
                return self._values(connection, app)
        except SecretUnreadable:
            # A rotation may have come between the rows and the key. Alone with them, what they say is so.
            with self.database.write() as connection:
                return self._values(connection, app)

    def rotate_key(self) -> int:
        """Encrypt all with a new key, which alone is in the key file then; how many there are. SecretUnreadable.

        Whenever it is interrupted, the key file has a key for each of them.
        """
        with self.database.write() as connection:
            rows = connection.execute(_ALL).fetchall()
            values, new = self._opened(rows), Key.new()
            # First, so that what is set from now on is encrypted with it, also if we do not come far.
            used = {row["key"] for row in rows}
            self.keys.write((new, *(key for key in (self.keys.read() if rows else ()) if key.id in used)))
            for row, value in zip(rows, values, strict=True):
                sealed = new.seal(value, place=_place(row["app"], row["name"]))
                connection.execute(_RESEAL, (sealed.key, sealed.nonce, sealed.ciphertext, row["row"]))
        self._forget_old_keys()
        return len(rows)

    def unreadable(self) -> tuple[SecretUnreadable, ...]:
        """What keeps each secret from being read, for those that cannot be."""
        with self.database.write() as connection:  # no rotation meanwhile
            rows = connection.execute(_ALL).fetchall()
            return tuple(error for row in rows if (error := self._why_not(row)))

    def _why_not(self, row: sqlite3.Row) -> SecretUnreadable | None:
        try:
            self._opened((row,))
        except SecretUnreadable as error:
            return error
        return None

    def _values(self, connection: sqlite3.Connection, app: str) -> dict[str, bytes]:
        rows = connection.execute(_FOR, (_scope(connection, app),)).fetchall()
        wanted = {row["name"]: row for row in rows}
        return dict(zip(wanted, self._opened(list(wanted.values())), strict=True))

    def _opened(self, rows: Sequence[sqlite3.Row]) -> list[bytes]:
        keys = self._keys(rows[0]) if rows else {}
        return [self._open(row, keys) for row in rows]

    def _keys(self, row: sqlite3.Row) -> dict[str, Key]:
        try:
            keys = self.keys.read()
        except StoreFailed as error:
            raise _unreadable(row, error.message, error.hint) from error
        if not keys:
            raise _unreadable(
                row, f"the key file {self.keys.path} is gone", f"put a copy of it there, or {_again(row)}"
            )
        return {key.id: key for key in keys}

    def _open(self, row: sqlite3.Row, keys: dict[str, Key]) -> bytes:
        if row["key"] not in keys:
            why = f"it was encrypted with another key than that in {self.keys.path}"
            raise _unreadable(row, why, f"put that key file there, or {_again(row)}")
        sealed = Sealed(row["key"], row["nonce"], row["ciphertext"])
        try:
            return keys[row["key"]].open(sealed, place=_place(row["app"], row["name"]))
        except Tampered as error:
            raise _unreadable(row, "something else than Aegis has changed it on record", _again(row)) from error

    def _forget_old_keys(self) -> None:
        with self.database.write() as connection:
            used = {row["key"] for row in connection.execute("SELECT DISTINCT key FROM secrets")}
            keys = self.keys.read()
            kept = [key for number, key in enumerate(keys) if not number or key.id in used]
            if len(kept) < len(keys):
                self.keys.write(kept)


def _scope(connection: sqlite3.Connection, app: str | None) -> str | None:
    return None if app is None else apps.find(connection, app).id


def _place(scope: str | None, name: str) -> bytes:
    # Neither holds a NUL, and no ID is empty: no two places are written alike.
    return b"\0".join((b"aegis secret 1", (scope or "").encode(), name.encode()))


def _info(row: sqlite3.Row) -> SecretInfo:
    return SecretInfo(name=row["name"], app=row["app"], created=row["created"], updated=row["updated"])


def _unreadable(row: sqlite3.Row, why: str, hint: str) -> SecretUnreadable:
    of = "all apps" if row["app"] is None else f"app {row['app_name']}"
    return SecretUnreadable(f"the secret {row['name']} of {of} cannot be decrypted: {why}", hint=hint)


def _again(row: sqlite3.Row) -> str:
    words = f"set-workspace {row['name']}" if row["app"] is None else f"set {row['app_name']} {row['name']}"
    return f"set it again: `aegis secret {words}`"
