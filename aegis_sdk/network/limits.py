"""What one guest may have under way, and how long it takes at most."""

from __future__ import annotations

from time import monotonic

import attrs


@attrs.frozen(kw_only=True)
class Limits:
    """Counts of one guest's, and seconds."""

    connections: int = 1024  # open, or being opened
    #: Connections and questions a second, and as many as may come at once after a rest.
    rate: float = 200.0
    burst: int = 1000
    lookups: int = 32  # at once, also those that are given up, since they go on; others wait
    lookup: float = 10.0
    #: Less than a guest's kernel waits for an answer.
    dial: float = 30.0
    #: For an answer to a guest that has said all: it may have gone since, of which nobody hears.
    parting: float = 600.0
    asked: float = 10.0  # for the one line that says what a connection is for


class Pace:
    """Lets through so many a second, and *burst* at once after a rest."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(burst)
        self._left, self._then = self._burst, monotonic()

    def take(self) -> bool:
        """Whether there may be one more now."""
        now = monotonic()
        self._left = min(self._burst, self._left + (now - self._then) * self._rate)
        self._then = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
