"""What a monitor says."""

from __future__ import annotations

import signal
import sys

import pytest

from aegis_sdk.drivers.vmm import Tail, Vmm
from tests.conftest import until


@pytest.mark.parametrize("problem", [BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_repeated_where_nobody_reads(monkeypatch, problem):
    """What is to be repeated is kept, also when our standard error is closed or has no reader any more."""

    class Gone:
        def write(self, _: str) -> None:
            raise problem

    monkeypatch.setattr(sys, "stderr", Gone())
    tail = Tail(aloud=True)
    tail.feed(b"said\n")
    assert str(tail) == "said\n"


@pytest.fixture
def start():
    started: list[Vmm] = []

    def start(*command: str) -> Vmm:
        started.append(Vmm.start(command, pass_fds=(), python=sys.executable))
        return started[-1]

    yield start
    for vmm in started:
        vmm.end()


def test_one_that_sleeps(start):
    """It takes no time, and that is no sleep while it is stopped."""
    vmm = start("/bin/sleep", "100")
    assert until(vmm.sleeps, 5)
    assert until(lambda: vmm.time_run() == vmm.time_run() and vmm.sleeps(), 5)
    vmm.send(signal.SIGSTOP)
    assert until(lambda: not vmm.sleeps(), 5)


def test_one_that_works(start):
    """Its time goes on."""
    vmm = start("/bin/sh", "-c", "while :; do :; done")
    before = vmm.time_run()
    assert before is not None
    assert until(lambda: (vmm.time_run() or 0) > before, 5)
    assert not vmm.sleeps()
