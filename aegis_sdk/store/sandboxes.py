"""The records of sandboxes that are kept: what each was asked to be, and what it was when it last booted."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from aegis_sdk.store.database import Database


@attrs.frozen(kw_only=True)
class SandboxRecord:
    """One of them: *spec* and *info* as JSON; *wanted* if it is to be started when the daemon next is."""

    id: str
    name: str | None
    spec: str
    info: str
    wanted: bool = False


@attrs.frozen
class SandboxRecords:
    """Those of one home."""

    _database: Database

    def all(self) -> tuple[SandboxRecord, ...]:
        """All of them, in the order in which they were made."""
        with self._database.read() as rows:
            found = rows.execute("SELECT id, name, spec, info, wanted FROM sandboxes ORDER BY rowid").fetchall()
        return tuple(SandboxRecord(**{**dict(row), "wanted": bool(row["wanted"])}) for row in found)

    def save(self, record: SandboxRecord) -> None:
        """Keep *record*, in the place of the one with its ID."""
        with self._database.write() as rows:
            rows.execute(
                "INSERT INTO sandboxes (id, name, spec, info, wanted) VALUES (:id, :name, :spec, :info, :wanted)"
                " ON CONFLICT (id) DO UPDATE SET spec = :spec, info = :info, wanted = :wanted",
                attrs.asdict(record),
            )

    def want(self, sandboxes: Iterable[str]) -> None:
        """Have these, and no others, be wanted."""
        with self._database.write() as rows:
            rows.execute("UPDATE sandboxes SET wanted = 0")
            rows.executemany("UPDATE sandboxes SET wanted = 1 WHERE id = ?", [(sandbox,) for sandbox in sandboxes])

    def delete(self, sandbox: str) -> None:
        """Forget one; fine if it is not there."""
        with self._database.write() as rows:
            rows.execute("DELETE FROM sandboxes WHERE id = ?", (sandbox,))
