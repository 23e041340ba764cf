"""Sandboxes that outlive whoever made them, on record: what an engine writes down of them, and finds again."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from aegis_sdk import wire
from aegis_sdk.engine.roster import Entry, Roster
from aegis_sdk.errors import InvalidValue, StoreFailed
from aegis_sdk.model import SandboxInfo, SandboxSpec, State
from aegis_sdk.store.sandboxes import SandboxRecord, SandboxRecords


@attrs.frozen
class Keeping:
    """Those of one home."""

    _records: SandboxRecords

    def restore(self, roster: Roster) -> None:
        """Have *roster* hold all that are on record; none of them runs."""
        for record in self._records.all():
            roster.restore(_entry(record))

    def save(self, entry: Entry, info: SandboxInfo) -> None:
        """Put a sandbox on record as it is now, if it is to be kept."""
        if entry.spec.keep:
            spec, now = wire.dumps(entry.spec).decode(), wire.dumps(info).decode()
            self._records.save(SandboxRecord(id=entry.id, name=entry.spec.name, spec=spec, info=now))

    def delete(self, entry: Entry) -> None:
        """Take a sandbox off the record."""
        if entry.spec.keep:
            self._records.delete(entry.id)

    def want(self, entries: Iterable[Entry]) -> None:
        """Have these be started again when the daemon is."""
        self._records.want(entry.id for entry in entries if entry.spec.keep)

    def wanted(self) -> tuple[str, ...]:
        """The IDs of those that are to be started."""
        return tuple(record.id for record in self._records.all() if record.wanted)


def _entry(record: SandboxRecord) -> Entry:
    try:
        spec, info = wire.loads(record.spec, SandboxSpec), wire.loads(record.info, SandboxInfo)
    except InvalidValue as error:
        raise StoreFailed(
            f"the record of sandbox {record.name or record.id} cannot be read: {error.message}",
            hint="use the Aegis that wrote it, or a newer one",
        ) from error
    return Entry(record.id, spec, info.created, info=stopped(info))


def stopped(info: SandboxInfo) -> SandboxInfo:
    """What a sandbox is while no machine of it is known."""
    return attrs.evolve(info, state=State.STOPPED, pid=None, memory_used=None, addresses={})
