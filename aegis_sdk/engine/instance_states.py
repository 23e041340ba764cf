"""What an instance may become, and by what: one table, without clock, guest or lock."""

from __future__ import annotations

import enum

import attrs

from aegis_sdk.model import InstanceState

#: So many crashes within so many seconds are enough: it is not started again until its owner asks for it.
CRASHES, WITHIN = 5, 120.0


class Event(enum.Enum):
    """What happens to an instance."""

    ASKED = "somebody wants it awake"
    SERVED = "its owner has it served"
    READY = "its server takes connections"
    IDLE = "nobody uses it, and nothing is done in it"
    LATE = "it has slept for long"
    ENDED = "its server has ended of its own will, or nothing could be booted"
    CRASHED = "it was not ready in time, its server failed, or its guest died"
    STOPPED = "its owner has stopped it"


_STOPPED, _STARTING, _RUNNING = InstanceState.STOPPED, InstanceState.STARTING, InstanceState.RUNNING
_PAUSED, _FAILED = InstanceState.PAUSED, InstanceState.FAILED
#: What is not in it changes nothing. A crash too many is FAILED, whatever stands here.
TABLE = {
    (_STOPPED, Event.ASKED): _STARTING,
    (_STOPPED, Event.SERVED): _STARTING,
    (_FAILED, Event.SERVED): _STARTING,
    (_STARTING, Event.READY): _RUNNING,
    (_RUNNING, Event.IDLE): _PAUSED,
    (_PAUSED, Event.ASKED): _RUNNING,
    (_PAUSED, Event.SERVED): _RUNNING,
    (_PAUSED, Event.LATE): _STOPPED,
    **{(state, Event.ENDED): _STOPPED for state in (_STARTING, _RUNNING, _PAUSED)},
    **{(state, Event.CRASHED): _STOPPED for state in (_STARTING, _RUNNING, _PAUSED)},
    **{(state, Event.STOPPED): _STOPPED for state in (_STARTING, _RUNNING, _PAUSED, _FAILED)},
}


@attrs.frozen
class Course:
    """The state of an instance, why it is in it, and when it has crashed lately."""

    state: InstanceState = InstanceState.STOPPED
    reason: str = ""
    crashes: tuple[float, ...] = ()

    def after(self, event: Event, *, now: float, reason: str = "") -> Course | None:
        """What it is after *event*, at the time *now* of a clock that never goes back; None if that changes nothing."""
        if (state := TABLE.get((self.state, event))) is None:
            return None
        crashes = () if event in (Event.SERVED, Event.STOPPED) else self.crashes
        if event is Event.CRASHED:
            crashes = (*(crash for crash in crashes if now - crash < WITHIN), now)[-CRASHES:]
            state = InstanceState.FAILED if len(crashes) == CRASHES else state
        return Course(state, reason, crashes)
