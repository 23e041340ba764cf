"""The way out of one guest, from its boot to its end; it costs nothing until the guest opens a connection."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from aegis_sdk.model import Network, NetworkEvent

if TYPE_CHECKING:
    from aegis_sdk.network.carrier import Carrier
    from aegis_sdk.network.limits import Limits
    from aegis_sdk.network.resolver import Lookup

_KEPT_EVENTS = 1000


class Gateway:
    """What a guest's connections are given to; its methods may be called from any thread."""

    def __init__(
        self,
        network: Network,
        *,
        environ: Mapping[str, str],
        lookup: Lookup | None = None,
        limits: Limits | None = None,
        on_event: Callable[[NetworkEvent], None] | None = None,
    ) -> None:
        """Let out what *network* allows, by the proxies that *environ* says; *on_event* hears of each attempt.

        Names are asked of *lookup*, by default of this machine's own resolver.
        """
        self._network, self._environ, self._lookup, self._limits = network, environ, lookup, limits
        self._on_event = on_event
        self._events: deque[NetworkEvent] = deque(maxlen=_KEPT_EVENTS)
        self._lock = threading.Lock()
        self._carrier: Carrier | None = None  # until the guest opens its first connection
        self._over = False

    def opened(self, connection: socket.socket, reset: Callable[[], object]) -> None:
        """The guest has opened *connection*, which is the gateway's now; *reset* breaks it, so that the guest sees it.

        Returns at once.
        """
        with self._lock:
            if self._over:
                connection.close()
                return
            try:
                carrier = self._carrier or self._start()
            except (OSError, RuntimeError):  # no descriptor, or no thread, is left: the next may find one
                connection.close()
                return
            carrier.take(connection, reset)

    def close(self) -> None:
        """The guest has ended: end all that is open, and the thread."""
        with self._lock:
            self._over = True
            carrier = self._carrier
        if carrier:
            carrier.close()

    def update(self, network: Network) -> None:
        """From here on *network* decides; what is open and would not be allowed now is broken off."""
        with self._lock:
            self._network = network
            if self._carrier and not self._over:
                self._carrier.update(network)

    def events(self) -> tuple[NetworkEvent, ...]:
        """What was tried, the oldest first: of what is over, the last thousand."""
        return tuple(self._events.copy())

    def _start(self) -> Carrier:
        from aegis_sdk.network.carrier import Carrier  # late: asyncio is half of a command's imports

        self._carrier = Carrier(self._network, self._note, self._environ, lookup=self._lookup, limits=self._limits)
        return self._carrier

    def _note(self, event: NetworkEvent) -> None:
        self._events.append(event)
        if self._on_event:
            self._on_event(event)
