"""Records as SQL: of each schema that there was, with data in it, and of the newest, made of the one before.

``python -m tests.sdk.store.dump`` writes the newest into tests/golden/schema; add rows to what is new in it by hand.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from aegis_sdk.store import database, migrations
from tests.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden" / "schema"


def load(version: int, file: Path) -> None:
    """Make *file* of what is kept of that version."""
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((GOLDEN / f"{version}.sql").read_text())
        connection.execute(f"PRAGMA user_version = {version}")


def schema(file: Path) -> Sequence[tuple[str, ...]]:
    """The tables and indexes of *file*."""
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()
    return [(*names, " ".join((sql or "").split())) for *names, sql in found]


def made_by(steps: int, file: Path) -> None:
    """Make *file* by the first *steps* migrations alone."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        for statements in migrations.MIGRATIONS[:steps]:
            for statement in statements:
                connection.execute(statement)


def _write(version: int) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript((GOLDEN / f"{version - 1}.sql").read_text())
        connection.execute(f"PRAGMA user_version = {version - 1}")
        database.migrate(connection)
        (GOLDEN / f"{version}.sql").write_text("\n".join((*connection.iterdump(), "")))


if __name__ == "__main__":
    _write(len(migrations.MIGRATIONS))
