"""The database of a home: one SQLite file, which any number of processes may use at once."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from aegis_sdk.artifacts import private
from aegis_sdk.errors import StoreFailed
from aegis_sdk.store.migrations import MIGRATIONS

_BUSY = 30.0  # seconds to wait for another process's write
_AGAIN = 0.02


class Database:
    """The records of one home; what a transaction has written is on the disk when its block is left.

    Each thread may use it. StoreFailed says what the system or SQLite has against it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ready = False
        self._lock = threading.Lock()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection to read from, which sees one state of the database."""
        with self._connected() as connection:
            connection.execute("BEGIN")
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A connection to write with: all of it is kept, or nothing if the block is left by an exception."""
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._open()) as connection:
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise StoreFailed(
                f"the records in {self._path} cannot be used: {error}",
                hint="`aegis doctor` looks closer; a home that is to be empty begins with `aegis down && rm -r` of it",
            ) from error

    def _open(self) -> sqlite3.Connection:
        with self._lock:
            if not self._ready or not self._path.exists():
                private(self._path.parent)
                with closing(self._connect()) as connection:
                    migrate(connection)
                self._ready = True
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        # With FULL, a write is on the disk before it is acknowledged, also when the power goes.
        connection.execute("PRAGMA synchronous = FULL")
        return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, from whichever version it has; StoreFailed if that is newer than this program."""
    _write_ahead(connection)
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreFailed(
            f"these records have schema {version}, and this Aegis knows {len(MIGRATIONS)} at most",
            hint="use the Aegis that wrote them, or a newer one",
        )
    for number, statements in enumerate(MIGRATIONS[version:], version + 1):
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
    connection.execute("COMMIT")


def _write_ahead(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + _BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:  # SQLite does not wait for this lock by itself
            if time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN)
