"""What guests have tried to reach: written to the log of whoever a guest belongs to, and read from there."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Protocol

import attrs

from aegis_sdk import wire
from aegis_sdk.errors import InvalidValue
from aegis_sdk.model import LogEntry, NetworkEvent

SOURCE = "network"
_MOST_REFUSALS = 100  # that are also said in words: what a guest tries is its own affair, and may be everything


class Hearer(Protocol):
    """A log."""

    def feed(self, source: str, data: bytes) -> None:
        """Take what comes next from *source*."""

    def say(self, text: str) -> None:
        """Take a line of Aegis's own."""


@attrs.define
class Attempts:
    """Writes a guest's down; each refusal is said in words, too, the first time."""

    _log: Hearer
    _refused: set[str] = attrs.field(factory=set, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def tell(self, event: NetworkEvent) -> None:
        """Write *event* down, from any thread."""
        self._log.feed(SOURCE, wire.dumps(event) + b"\n")
        if not event.allowed and self._is_new(event.place):
            self._log.say(event.hint)

    def _is_new(self, place: str) -> bool:
        with self._lock:
            if place in self._refused or len(self._refused) >= _MOST_REFUSALS:
                return False
            self._refused.add(place)
            return True


def events(entries: Iterable[LogEntry]) -> Iterator[NetworkEvent]:
    """Those among the *entries* of a log."""
    for entry in entries:
        if entry.source == SOURCE:
            with suppress(InvalidValue):  # an older Aegis may have meant something else
                yield wire.loads(entry.data, NetworkEvent)
