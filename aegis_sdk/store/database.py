"""The database of a home: one SQLite file, which any number of processes may use at once."""

from __future__ import annotations

import shlex
import sqlite3
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

    Each thread may use it, and each process, also after a fork: a transaction opens the file anew, and so finds another
    one in its place, too. StoreFailed says what the system or SQLite has against it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """A connection to read from, which sees one state of the database."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A connection to write with, alone: all of it is kept, or nothing if the block is left by an exception."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    def hold(self) -> sqlite3.Connection:
        """Something to be closed in the end: until then each transaction is several times cheaper, here and elsewhere.

        For who stays: the last one to close the file writes all that was written ahead to its place, and waits for it.
        """
        with self.read():
            pass  # what is there, and of this schema
        with self._in_words():
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()  # only now has it opened the file
            return connection

    def check(self) -> bool:
        """Whether there is one; StoreFailed if it cannot be used, or is not whole."""
        if not self.path.exists():
            return False
        with self.read() as connection:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if said != "ok":
            raise _failed(self.path, said, _broken(self.path))
        return True

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._in_words(), closing(self._connect()) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
            # With FULL, a write is on the disk before it is acknowledged, also when the power goes.
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(begin)
            if _version(connection) != len(MIGRATIONS):
                connection.execute("ROLLBACK")
                migrate(connection)
                connection.execute(begin)
            yield connection
            connection.execute("COMMIT")

    def _connect(self) -> sqlite3.Connection:
        try:
            private(self.path.parent)
        except OSError as error:
            raise _failed(self.path, error.strerror or str(error), _WRITABLE) from error
        return sqlite3.connect(self.path, timeout=_BUSY, isolation_level=None)

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
            raise  # a fault of ours, to be seen whole
        except sqlite3.Error as error:
            raise _failed(self.path, str(error), _hint(self.path, error)) from error


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date, from whichever version it has; StoreFailed if that is newer than this program."""
    _write_ahead(connection)
    # A step may put a table in the place of another, and what refers to it is to stay.
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("BEGIN IMMEDIATE")
    version = _version(connection)
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
    connection.execute("PRAGMA foreign_keys = ON")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _write_ahead(connection: sqlite3.Connection) -> None:
    deadline = time.monotonic() + _BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            # SQLite does not wait for this lock by itself.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(_AGAIN)


_WRITABLE = "set AEGIS_HOME to a directory that this user may write to"


def _failed(path: Path, seen: str, hint: str) -> StoreFailed:
    return StoreFailed(f"the records in {path} cannot be used: {seen}", hint=hint)


def _broken(path: Path) -> str:
    name, aside = shlex.quote(str(path)), shlex.quote(str(path.with_name("broken")))
    lost = "all apps, secrets and tasks on record are lost with it"
    return f"put a copy of yours there, or begin anew with `mkdir -p {aside} && mv {name}* {aside}`: {lost}"


def _hint(path: Path, error: sqlite3.Error) -> str:
    kind = getattr(error, "sqlite_errorcode", 0) & 0xFF  # errors of the module's own have no code
    if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _broken(path)
    if kind in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return _WRITABLE
    if kind == sqlite3.SQLITE_BUSY:
        return f"another program has held them for {_BUSY:.0f} s: `fuser {shlex.quote(str(path))}` names it"
    if kind == sqlite3.SQLITE_FULL:
        return "free some space, or set AEGIS_HOME to a directory on another disk"
    return "`aegis doctor` looks closer"
