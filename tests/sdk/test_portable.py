"""What stands in for Linux's own calls on other systems does what they do; it is tried here, where both work."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial

import pytest

from aegis_sdk.drivers import child, confine, readiness
from aegis_sdk.drivers.readiness import HANG_UP, READ, WRITE
from tests.conftest import until

#: In so many seconds, each way has looked for everything that it tells.
ALL_SEEN = readiness._GLANCE + 0.1


@pytest.fixture(params=["here", "anywhere"])
def means(request, monkeypatch):
    """Both ways to wait on descriptors, each as the one that a reactor takes."""
    made = getattr(readiness, request.param)
    monkeypatch.setattr(readiness, "here", made)
    return made


@pytest.fixture
def waiting(means):
    ready, waker = means()
    yield ready
    ready.close()
    waker.close()


@pytest.fixture
def ends():
    here, there = socket.socketpair()
    with here, there:
        yield here, there


def _told(waiting: readiness.Readiness, *, within: float = 1.0) -> dict[int, int]:
    """What is told within so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if told := waiting.poll(0.1):
            return dict(told)
    return {}


def test_the_numbers_are_those_of_epoll():
    """READ, WRITE and HANG_UP mean the same to epoll and poll."""
    assert (READ, WRITE, HANG_UP) == (select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP)


def test_ready_for_what_is_asked(waiting, ends):
    """A descriptor is told when it is ready for what is asked, and for nothing else."""
    here, there = ends
    waiting.register(here.fileno(), READ)
    assert waiting.poll(0) == []
    there.send(b"x")
    assert _told(waiting) == {here.fileno(): READ}
    waiting.modify(here.fileno(), WRITE)
    assert _told(waiting) == {here.fileno(): WRITE}
    waiting.modify(here.fileno(), 0)
    assert _told(waiting, within=ALL_SEEN) == {}
    waiting.modify(here.fileno(), READ | WRITE)
    assert _told(waiting) == {here.fileno(): READ | WRITE}
    waiting.unregister(here.fileno())
    assert _told(waiting, within=ALL_SEEN) == {}


def test_a_hang_up_of_which_nothing_is_asked(waiting, ends):
    """A peer that is gone is told though nothing is asked; one that has only finished writing is not gone."""
    here, there = ends
    waiting.register(here.fileno(), 0)
    there.send(b"x")
    there.shutdown(socket.SHUT_WR)
    assert _told(waiting, within=ALL_SEEN) == {}
    there.close()
    assert _told(waiting) == {here.fileno(): HANG_UP}
    waiting.unregister(here.fileno())
    assert _told(waiting, within=ALL_SEEN) == {}


def test_a_hang_up_beside_what_is_always_ready(waiting, ends):
    """A descriptor that is ready all the time keeps no other's hang-up from being told."""
    here, there = ends
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as busy:
        waiting.register(busy.fileno(), WRITE)
        waiting.register(here.fileno(), 0)
        there.close()
        assert until(lambda: here.fileno() in dict(waiting.poll(0.1)), 1)


def test_to_be_woken(means):
    """However often it is woken before it rests, it is ready until then and not after."""
    ready, waker = means()
    ready.register(waker.fileno(), READ)
    assert ready.poll(0) == []
    threads = [threading.Thread(target=waker.wake) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ready.poll(1) == [(waker.fileno(), READ)]
    waker.rest()
    assert ready.poll(0) == []
    ready.close()
    waker.close()


def test_woken_more_often_than_there_is_room_for():
    """Who wakes never waits."""
    _, waker = readiness.anywhere()
    for _ in range(10_000):
        waker.wake()
    waker.close()


@pytest.fixture(params=["PidfdChild", "PipeChild"])
def start(request):
    return getattr(child, request.param).start


def _spawn(script: str, more: tuple[int, ...]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sh", "-c", script], pass_fds=more)


def _readable(descriptor: int, timeout: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def test_a_childs_end(start):
    """Its descriptor becomes readable when it ends by itself, and its exit code is to be had."""
    made = start(partial(_spawn, "sleep 0.3; exit 3"))
    assert not _readable(made.ended, 0.05)
    assert _readable(made.ended, 5)
    assert made.process.wait() == 3
    made.send(signal.SIGKILL)
    os.close(made.ended)


def test_a_child_that_is_killed(start):
    """To kill it ends it, and may be done again."""
    made = start(partial(_spawn, "exec sleep 60"))
    made.send(signal.SIGKILL)
    assert _readable(made.ended, 5)
    made.send(signal.SIGKILL)
    assert made.process.wait() == -signal.SIGKILL
    made.send(signal.SIGKILL)
    os.close(made.ended)


def test_a_child_that_cannot_be_started(start):
    """Where there is no process, nothing is left of it."""
    with pytest.raises(FileNotFoundError):
        start(lambda more: subprocess.Popen(["/no/such/program"], pass_fds=more))


_WATCHED = f"""
import ctypes, runpy, sys
confine = runpy.run_path({confine.__file__!r})
confine["watch"](int(sys.argv[1]))
print("on", flush=True)
ctypes.CDLL(None).pause()
"""
_PARENT = """
import os, subprocess, sys
subprocess.Popen([sys.executable, "-I", "-S", "-c", sys.argv[1], str(os.getpid())])
sys.stdin.read()
"""


def test_a_monitor_dies_with_its_parent():
    """A process that watches its parent ends within a second of it, while it is in a call of a library, too."""
    command = [sys.executable, "-c", _PARENT, _WATCHED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"on\n"
        assert not _readable(parent.stdout.fileno(), 0.6)  # the parent lives, and so does it
        parent.kill()
        assert _readable(parent.stdout.fileno(), 2)
        assert parent.stdout.read() == b""  # nobody holds the other end any more
