"""What lasts as long as a client does: a lease is an open connection, and what hangs on it ends with it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from aegis_sdk.errors import AegisError, NotFound

_log = logging.getLogger(__name__)
End = Callable[[], object]


class Leases:
    """The leases that are held, and how to end what hangs on each. Any thread may call it."""

    def __init__(self) -> None:
        self._held: dict[str, dict[str, End]] = {}
        self._lock = threading.Lock()

    def open(self) -> str:
        """A new lease."""
        lease = os.urandom(16).hex()
        with self._lock:
            self._held[lease] = {}
        return lease

    def check(self, lease: str) -> None:
        """NotFound unless it is held."""
        with self._lock:
            if lease not in self._held:
                raise _unknown()

    def hang(self, lease: str, thing: str, end: End) -> None:
        """Have *thing* ended by *end* when the lease ends; NotFound if it has ended, and so has the thing."""
        with self._lock:
            held = self._held.get(lease)
            if held is not None:
                held[thing] = end
                return
        _end(thing, end)
        raise _unknown()

    def forget(self, thing: str) -> None:
        """Let *thing*, which has ended, hang on no lease any more."""
        with self._lock:
            for held in self._held.values():
                held.pop(thing, None)

    def close(self, lease: str) -> None:
        """End what hangs on it."""
        with self._lock:
            held = self._held.pop(lease, {})
        for thing, end in held.items():
            _end(thing, end)


def _unknown() -> NotFound:
    return NotFound("there is no such lease, or it has ended", hint="a lease lasts as long as its connection is open")


def _end(thing: str, end: End) -> None:
    try:
        end()
    except AegisError as error:
        _log.warning("%s, whose client has gone, was not ended: %s", thing, error.message)
