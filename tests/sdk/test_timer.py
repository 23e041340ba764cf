"""What is to be done later."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from aegis_sdk.engine.timer import Timer
from tests.conftest import until


@pytest.fixture
def timer() -> Iterator[Timer]:
    timer = Timer()
    yield timer
    timer.close()


def threads() -> int:
    return sum(thread.name == "aegis-timer" for thread in threading.enumerate())


def test_in_the_order_of_their_times(timer):
    """Each call comes at its time, by one thread, which goes when there is nothing left."""
    done: list[str] = []
    timer.after(0.2, lambda: done.append("late"))
    timer.after(0.1, lambda: done.append("soon"))
    timer.after(0, lambda: done.append("now"))
    assert threads() == 1
    assert until(lambda: len(done) == 3, 5)
    assert done == ["now", "soon", "late"]
    assert until(lambda: not threads(), 5)
    timer.after(0, lambda: done.append("again"))
    assert until(lambda: done[-1] == "again", 5)


def test_no_thread_to_be_had(timer, monkeypatch):
    """Who is refused a thread is told so, and all is done as soon as there are threads again."""
    done: list[str] = []
    with monkeypatch.context() as none_left:
        none_left.setattr(threading.Thread, "start", _refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            timer.after(0, lambda: done.append("first"))
    timer.after(0, lambda: done.append("second"))
    assert until(lambda: done == ["first", "second"], 5)


def _refuse(thread: threading.Thread) -> None:
    raise RuntimeError(f"can't start {thread.name}")


def test_what_is_closed_does_nothing_more(timer):
    """What was still to come does not."""
    done: list[str] = []
    timer.after(0.1, lambda: done.append("late"))
    timer.close()
    assert not threads()
    assert not until(lambda: bool(done), 0.2)


def test_a_host_that_stood_still(timer, monkeypatch):
    """Time in which nothing ran does not count: not all is late when a laptop is opened again."""
    shut = 0.0
    monotonic = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + shut)
    done: list[str] = []
    timer.after(0.3, lambda: done.append("first"))
    timer.after(600, lambda: done.append("much later"))
    time.sleep(0.1)
    shut = 3600.0
    assert until(lambda: done == ["first"], 5)
    assert not until(lambda: len(done) > 1, 0.3)


def test_times_without_end(timer):
    """A time that no clock reaches is no fault."""
    timer.after(1e300, lambda: None)
    assert threads() == 1
