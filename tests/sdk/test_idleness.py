"""When a guest may be put to sleep."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aegis_sdk.engine.idleness import THRESHOLD, Idleness, Look


def seen(idleness: Idleness, look: Look, at: float) -> Idleness:
    """What follows from a look after which it may not sleep yet."""
    after = idleness.seen(look, at)
    assert after
    return after


def test_an_idle_guest_is_asked_twice():
    """Once for a figure to compare with, once when its time is over; then it sleeps."""
    idleness = Idleness(60, 100.0)
    assert idleness.due == 115
    idleness = seen(idleness, Look(cpu=5.0), 115.0)
    assert idleness.due == 160
    assert idleness.seen(Look(cpu=5.5), 160.0) is None


def test_work_from_before_does_not_count():
    """What the CPU did for requests is over when it is looked at first."""
    idleness = seen(Idleness(60, 100.0), Look(cpu=1000.0), 115.0)
    assert idleness.seen(Look(cpu=1000.0), 160.0) is None


def test_work_in_the_background_keeps_it_awake():
    """More than a fiftieth of a CPU is work; when it is over, a whole idle time has to pass."""
    idleness = seen(Idleness(60, 100.0), Look(cpu=0.0), 115.0)
    idleness = seen(idleness, Look(cpu=2.0), 160.0)
    assert idleness.due == 220
    assert idleness.seen(Look(cpu=2.0), 220.0) is None


def test_whatever_else_keeps_it_awake():
    """A connection, a command, a lease: a whole idle time from the last look at which it was there."""
    idleness = seen(Idleness(60, 100.0), Look(cpu=0.0, busy=True), 115.0)
    assert idleness.due == 175
    assert seen(idleness, Look(cpu=0.0, busy=True), 175.0).due == 235
    assert idleness.seen(Look(cpu=0.0), 175.0) is None


def test_a_use_begins_anew():
    """What was used is idle from then on, and looked at from the start."""
    idleness = seen(Idleness(60, 100.0), Look(cpu=0.0), 115.0).used(150.0)
    assert idleness == Idleness(60, 150.0)
    assert idleness.used(120.0) is idleness


@given(st.floats(0.1, 1000), st.lists(st.tuples(st.floats(0, 0.5), st.booleans(), st.floats(0, 5)), max_size=20))
def test_it_sleeps_only_after_its_time(after, looks):
    """Whatever happens: who may sleep has been idle for the whole of its time, and is not asked all the time."""
    now, cpu, last, asked = 0.0, 0.0, 0.0, 0
    idleness = Idleness(after, now)
    for share, busy, late in looks:
        assert idleness.due >= now + after * 0.2
        before, now = now, idleness.due + late
        cpu += share * (now - before)
        asked += 1
        following = idleness.seen(Look(cpu=cpu, busy=busy), now)
        if busy:
            last = now
        if following is None:
            assert now - last >= after * 0.99
            assert not busy
            assert asked > 1
            return
        idleness = following
    assert asked <= 2 + 2 * now / after


@given(st.floats(1, 1000), st.floats(0, THRESHOLD * 0.9))
def test_a_guest_that_does_nearly_nothing_sleeps(after, share):
    """Below the threshold it sleeps at the second look."""
    idleness = Idleness(after, 0.0)
    idleness = seen(idleness, Look(cpu=share * idleness.due), idleness.due)
    assert idleness.seen(Look(cpu=share * idleness.due), idleness.due) is None
