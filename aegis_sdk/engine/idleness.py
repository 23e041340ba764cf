"""Whether a guest can be put to sleep: a judgement about times and figures, without a clock or a guest."""

from __future__ import annotations

import attrs

#: A guest whose commands take less than this part of one CPU does nothing that anybody would miss.
THRESHOLD = 0.02
#: When this part of its idle time is over, a guest's CPU time is looked at first, for the end to compare with.
_FIRST = 0.25


@attrs.frozen(kw_only=True)
class Look:
    """What a guest says of itself: CPU seconds of its commands so far, and whether something else keeps it awake."""

    cpu: float
    busy: bool = False


@attrs.frozen
class Idleness:
    """A guest that nobody has used since *since*, and that may sleep *after* so many seconds.

    It is looked at when a part of them is over, and at their end; not more often while nothing happens.
    """

    after: float
    since: float
    _first: tuple[float, Look] | None = None

    @property
    def due(self) -> float:
        """When it is to be looked at next."""
        if self._first is None:
            return self.since + self.after * _FIRST
        # A first look that came late leaves the second one time enough to see something.
        return max(self.since + self.after, self._first[0] + self.after * (1 - _FIRST))

    def used(self, at: float) -> Idleness:
        """It was used then."""
        return self if at <= self.since else Idleness(self.after, at)

    def seen(self, look: Look, at: float) -> Idleness | None:
        """What follows from a *look* when one was due; None: it can sleep."""
        if look.busy:
            return Idleness(self.after, at, (at, look))
        if self._first is None:
            return Idleness(self.after, self.since, (at, look))
        began, before = self._first
        if look.cpu - before.cpu > THRESHOLD * (at - began):
            return Idleness(self.after, at, (at, look))
        return None
