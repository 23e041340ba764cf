"""A paused guest stands still, costs no time, and goes on as if nothing had been."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

import aegis_sdk as aegis
from tests.conftest import monitors, slowness, until


@pytest.fixture
def vm(boot):
    return boot()


def _time_used(pid: int) -> int:
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[11:13]))


@pytest.mark.every_driver
def test_it_stands_still(vm):
    """Between pause and resume nothing runs in the guest, and its monitor takes no time; pausing twice is fine."""
    vm.start(
        "sh",
        "-c",
        "i=0; while :; do i=$((i + 1)); echo $i > /tmp/count.new; mv /tmp/count.new /tmp/count; sleep 0.1; done",
    )
    assert until(lambda: vm.run("cat", "/tmp/count").ok, 5)
    before = int(vm.run("cat", "/tmp/count").stdout)
    vm.pause()
    vm.pause()
    time.sleep(0.2)
    used = _time_used(vm.info().pid)
    time.sleep(3)
    assert _time_used(vm.info().pid) == used
    vm.resume()
    vm.resume()
    assert int(vm.run("cat", "/tmp/count").stdout) - before < 20
    assert until(lambda: int(vm.run("cat", "/tmp/count").stdout) - before > 20, 10)


@pytest.mark.every_driver
def test_its_clock_is_right(vm):
    """Time has gone on for it."""
    vm.pause()
    time.sleep(2.5)
    vm.resume()
    assert abs(float(vm.run("date", "+%s").stdout) - time.time()) < 1.5 * slowness()


def test_what_is_asked_of_it_waits(vm):
    """A command that is started meanwhile runs when the guest goes on."""
    vm.pause()
    threading.Timer(1, vm.resume).start()
    start = time.monotonic()
    assert vm.run("echo", "on").stdout == "on\n"
    assert time.monotonic() - start > 0.9


def test_a_long_pause_is_no_death(boot, monkeypatch):
    """A guest that is paused owes no sign of life."""
    monkeypatch.setattr("aegis_sdk.drivers.machine._TICK", 0.01)
    vm = boot()
    vm.pause()
    time.sleep(3)
    vm.resume()
    assert vm.run("echo", "on").stdout == "on\n"


@pytest.mark.every_driver
def test_closing(boot):
    """A paused sandbox closes as fast as any other, and leaves nothing; pausing it then is fine."""
    vm = boot()
    pid = vm.info().pid
    vm.pause()
    start = time.monotonic()
    vm.close()
    assert time.monotonic() - start < 2 * slowness()
    assert pid not in monitors()
    vm.pause()
    vm.resume()


@pytest.mark.in_process
@pytest.mark.timeout(60)
@pytest.mark.parametrize("act", ["resume", "wait"])
def test_in_a_signal_handler(boot, act):
    """A handler may pause, resume and wait whatever its thread is in the midst of, those three included."""
    vm = boot()
    handled = 0

    def wait() -> None:
        assert vm._engine.ending(vm.id, timeout=1e-6) is None

    def handle(*_: object) -> None:
        nonlocal handled
        handled += 1
        vm.resume() if act == "resume" else wait()
        signal.setitimer(signal.ITIMER_PROF, random.uniform(0.0001, 0.002))

    before = signal.signal(signal.SIGPROF, handle)
    signal.setitimer(signal.ITIMER_PROF, 0.001)
    try:
        while handled < 100:
            vm.pause() if act == "resume" else wait()
            vm.resume() if act == "resume" else wait()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    assert vm.run("echo", "on").stdout == "on\n"


def test_a_forked_child_may_not(boot):
    """A forked child that pauses its parent's sandbox is told that it may not, and does not wait for ever."""
    vm = boot()
    if not (child := os.fork()):
        try:
            vm.pause()
        except aegis.SandboxClosed:
            os._exit(7)
        finally:
            os._exit(1)
    ended: list[int] = []
    watcher = threading.Thread(target=lambda: ended.append(os.waitpid(child, 0)[1]))
    watcher.start()
    watcher.join(3)
    if not ended:
        os.kill(child, signal.SIGKILL)
        watcher.join()
    assert os.waitstatus_to_exitcode(ended[0]) == 7


@pytest.mark.in_process
def test_in_the_machines_own_thread(boot):
    """What a garbage collection in the machine's thread pauses is paused at once."""
    vm = boot()

    class Held:
        def __del__(self) -> None:
            vm.pause()
            paused.set()

    paused = threading.Event()
    machine = vm._engine._roster.find(vm.id).running.machine
    machine._reactor.ask(lambda: Held() and None)
    assert paused.wait(5)
    vm.resume()
    assert vm.run("echo", "on").stdout == "on\n"
