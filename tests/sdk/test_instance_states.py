"""The table of what an instance may become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_sdk.engine.instance_states import CRASHES, TABLE, WITHIN, Course, Event
from aegis_sdk.model import InstanceState

STOPPED, STARTING, RUNNING = InstanceState.STOPPED, InstanceState.STARTING, InstanceState.RUNNING
PAUSED, FAILED = InstanceState.PAUSED, InstanceState.FAILED
events = st.sampled_from(list(Event))


def expected(state: InstanceState, event: Event) -> InstanceState | None:
    """The rules in words, one after the other; None where nothing changes. Crashes are counted elsewhere."""
    has_guest = state in (STARTING, RUNNING, PAUSED)
    asked = {STOPPED: STARTING, PAUSED: RUNNING}
    return {
        Event.STOPPED: STOPPED if has_guest or state is FAILED else None,
        Event.CRASHED: STOPPED if has_guest else None,
        Event.ENDED: STOPPED if has_guest else None,
        Event.ASKED: asked.get(state),
        Event.SERVED: (asked | {FAILED: STARTING}).get(state),
        Event.READY: RUNNING if state is STARTING else None,
        Event.IDLE: PAUSED if state is RUNNING else None,
        Event.LATE: STOPPED if state is PAUSED else None,
    }[event]


@pytest.mark.parametrize("state", InstanceState)
@pytest.mark.parametrize("event", Event)
def test_the_table_is_the_rules(state, event):
    """Every state and every event."""
    assert TABLE.get((state, event)) == expected(state, event)
    course = Course(state).after(event, now=0.0, reason="so")
    assert (course.state if course else None) == expected(state, event)
    assert course is None or course.reason == "so"


@given(st.lists(st.tuples(events, st.floats(0, 60))))
def test_any_course_of_events(happenings):
    """It follows the rules, and has FAILED after the fifth crash within two minutes, and only then."""
    course, state, now = Course(), STOPPED, 0.0
    crashes: list[float] = []
    for event, later in happenings:
        now += later
        after = course.after(event, now=now)
        to = expected(state, event)
        assert (after is None) == (to is None)
        if not after or not to:
            continue
        if event in (Event.SERVED, Event.STOPPED):
            crashes = []
        if event is Event.CRASHED:
            crashes.append(now)
            if len([crash for crash in crashes if now - crash < WITHIN]) >= CRASHES:
                to = FAILED
        course, state = after, to
        assert course.state is state
        assert len(course.crashes) <= CRASHES


def test_only_its_owner_starts_what_has_failed():
    """No request does, however many there are."""
    failed = Course(FAILED)
    assert failed.after(Event.ASKED, now=0) is None
    assert failed.after(Event.SERVED, now=0) == Course(STARTING)
