"""A guest is stopped, killed, waited for and asked about, at any moment, by any thread, and says what became of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs
import pytest

import aegis_sdk as aegis
from tests.conftest import monitors, slowness, until

TIDY = "trap 'echo tidied > /mnt/said; sync; exit 0' TERM; echo up; while :; do sleep 0.1; done"


@pytest.fixture
def vm(boot):
    return boot()


def _outcome(call: Callable[[], object]) -> tuple[list[Any], threading.Thread]:
    """What *call*, in a thread, returns or raises."""
    got: list[Any] = []

    def work() -> None:
        try:
            got.append(call())
        except Exception as error:  # noqa: BLE001  # whatever it is, the test looks at it
            got.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return got, thread


@pytest.mark.both_engines
def test_stop(vm):
    """A stop ends a guest by its owner's will, and it says so from then on."""
    pid = vm.info().pid
    start = time.monotonic()
    vm.stop(grace=5 * slowness())
    assert time.monotonic() - start < 5 * slowness()
    assert vm.info().state is aegis.State.STOPPED
    assert repr(vm).endswith(" stopped>")
    assert vm.info().memory_used is None
    assert vm.wait(1).cause is aegis.Cause.STOPPED
    assert pid not in monitors()
    assert "the host stops it" in vm.logs()


@pytest.mark.of_qemu
def test_what_runs_is_asked_to_end(boot, tmp_path):
    """Commands get SIGTERM and time to tidy up: those too that were left running."""
    vm = boot(mounts={"/mnt": tmp_path})
    vm.shell(f"({TIDY.replace('said', 'left')}) > /dev/null 2>&1 &")
    process = vm.start("sh", "-c", TIDY)
    assert next(iter(process.stdout)) == "up\n"
    time.sleep(0.5)
    vm.stop(grace=15)
    assert (tmp_path / "said").read_text() == "tidied\n"
    assert (tmp_path / "left").read_text() == "tidied\n"


def test_who_does_not_end_is_killed(vm):
    """The grace is a limit, whatever runs in the guest."""
    vm.start("sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    time.sleep(0.5)
    start = time.monotonic()
    vm.stop(grace=2)
    assert time.monotonic() - start < 4 * slowness()
    assert vm.wait().cause is aegis.Cause.STOPPED


@pytest.mark.both_engines
@pytest.mark.parametrize("end", [aegis.Sandbox.stop, aegis.Sandbox.kill])
def test_stopped_during_a_run(vm, end):
    """A command that ran when its guest was stopped did not end: its caller hears that the guest was stopped."""
    got, thread = _outcome(lambda: vm.run("sleep", "100"))
    process = vm.start("sleep", "100")
    assert process.pid
    time.sleep(0.5)
    end(vm)
    thread.join(10 * slowness())
    assert type(got[0]) is aegis.GuestDied
    assert "it was stopped by its owner" in str(got[0])
    with pytest.raises(aegis.GuestDied, match="stopped by its owner"):
        process.wait(timeout=5 * slowness())
    with pytest.raises(aegis.GuestDied, match="stopped by its owner"):
        vm.run("true")


def test_in_any_order(vm):
    """Stopping, killing, pausing, resuming and closing a guest that has ended are fine, as often as one likes."""
    vm.kill()
    for _ in range(2):
        vm.stop()
        vm.kill()
        vm.pause()
        vm.resume()
        assert vm.wait().cause is aegis.Cause.STOPPED
    vm.close()
    vm.close()
    vm.stop()
    vm.kill()
    assert vm.info().state is aegis.State.STOPPED
    assert vm.wait(1).cause is aegis.Cause.STOPPED
    assert "aegis" in vm.logs() or vm.logs() == ""


def test_a_paused_guest(vm):
    """One that is paused can be stopped: it goes on for that."""
    vm.pause()
    assert vm.info().state is aegis.State.PAUSED
    vm.stop(grace=5 * slowness())
    assert vm.info().state is aegis.State.STOPPED
    assert "the host stops it" in vm.logs()


def test_closing_is_not_stopping(vm):
    """After a close, the sandbox says that it was closed."""
    got, thread = _outcome(vm.wait)
    time.sleep(0.3)
    vm.close()
    thread.join(5 * slowness())
    assert repr(vm).endswith(" closed>")
    assert got[0].cause is aegis.Cause.CLOSED
    assert vm.wait(1).cause is aegis.Cause.CLOSED
    assert vm.info().state is aegis.State.STOPPED
    with pytest.raises(aegis.SandboxClosed):
        vm.run("true")


@pytest.mark.both_engines
def test_waiting(vm):
    """wait returns to all who wait when the guest ends by itself, and says how; before that it runs out of time."""
    with pytest.raises(TimeoutError):
        vm.wait(0.2)
    with pytest.raises(aegis.InvalidValue):
        vm.wait(-1)
    waiters = [_outcome(vm.wait) for _ in range(4)]
    vm.start("poweroff", "-f")
    for got, thread in waiters:
        thread.join(10 * slowness())
        assert got[0].cause is aegis.Cause.POWERED_OFF
    assert vm.info().state is aegis.State.STOPPED


def test_a_guest_that_fails(vm):
    """One whose monitor is killed has failed, and says so also when it is closed."""
    os.kill(vm.info().pid, signal.SIGKILL)
    assert vm.wait(5 * slowness()).cause is aegis.Cause.KILLED
    for _ in range(2):
        assert vm.info().state is aegis.State.FAILED
        assert vm.wait().cause is aegis.Cause.KILLED
        vm.close()


@pytest.mark.both_engines
def test_info(vm):
    """info says what the guest does now, what it takes, and how its boot went, as values that JSON holds."""
    info = vm.info()
    assert info.state is aegis.State.RUNNING
    assert info.pid in monitors()
    assert 30 << 20 < info.memory_used < 2 << 30
    vm.shell("dd if=/dev/zero of=/tmp/big bs=1M count=150", check=True)
    assert vm.info().memory_used > info.memory_used + (50 << 20)
    vm.pause()
    assert vm.info().state is aegis.State.PAUSED
    vm.resume()
    assert vm.info().state is aegis.State.RUNNING
    assert json.loads(json.dumps(attrs.asdict(vm.info())))["state"] == "RUNNING"
    assert sum(info.phases.values()) > 0


def test_logs(vm):
    """logs is what the guest said on its console, without what could do something to a terminal."""
    vm.shell("printf 'hello \\033[31m console\\n' > /dev/console", check=True)
    assert until(lambda: "hello" in vm.logs(), 5)
    assert "\033" not in vm.logs()


@pytest.mark.parametrize("grace", [-1, float("nan"), float("inf"), "5", None, True, 4000])
def test_graces_that_cannot_be_meant(sandbox, grace):
    """A grace that is no time is refused, and nothing is stopped."""
    with pytest.raises(aegis.InvalidValue, match="grace"):
        sandbox.stop(grace=grace)
    assert sandbox.run("true").ok


def test_from_asyncio(driver):
    """AsyncSandbox has all of it."""

    async def story() -> tuple[aegis.Ending, str]:
        async with aegis.AsyncSandbox(driver=driver) as vm:
            assert (await vm.info()).state is aegis.State.RUNNING
            await vm.pause()
            await vm.resume()
            waiting = asyncio.create_task(vm.wait())
            await vm.stop(grace=5 * slowness())
            assert (await vm.info()).state is aegis.State.STOPPED
            await vm.kill()
            return await waiting, await vm.logs()

    ending, said = asyncio.run(story())
    assert ending.cause is aegis.Cause.STOPPED
    assert "the host stops it" in said


def test_one_that_stands_still_holds_up_nobody(boot, sandbox):
    """While a monitor does not move, everything about it and about other guests answers at once."""
    vm = boot()
    os.kill(vm.info().pid, signal.SIGSTOP)
    start = time.monotonic()
    assert vm.info().state is aegis.State.RUNNING
    vm.logs()
    with pytest.raises(TimeoutError):
        vm.wait(0.01)
    assert sandbox.info().state is aegis.State.RUNNING
    assert sandbox.run("echo", "on").stdout == "on\n"
    assert time.monotonic() - start < 1 * slowness()
    vm.stop(grace=1)
    assert time.monotonic() - start < 4 * slowness()
    assert vm.wait().cause is aegis.Cause.STOPPED


def test_a_pause_over_a_change_of_the_clock(vm):
    """A guest that was paused has this machine's time, whatever it had before, and its timers go on."""
    vm.run("date", "-s", "@1000000000")
    process = vm.start("sleep", "1")
    vm.pause()
    time.sleep(2)
    vm.resume()
    assert abs(float(vm.run("date", "+%s").stdout) - time.time()) < 1.5 * slowness()
    assert process.wait(timeout=10 * slowness()) == 0
