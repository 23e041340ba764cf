"""The monitor of a guest has what it needs and no more."""

from __future__ import annotations

import os
import resource
import threading
from pathlib import Path

import pytest

import aegis_sdk as aegis
from tests.conftest import monitors, until

pytestmark = pytest.mark.every_driver


@pytest.fixture
def monitor(sandbox) -> Path:
    return Path(f"/proc/{sandbox.info().pid}")


def _status(monitor: Path) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in (monitor / "status").read_text().splitlines() if ":\t" in line)


def test_privileges(monitor):
    """It can gain no privileges."""
    assert _status(monitor)["NoNewPrivs"] == "1"


@pytest.mark.of_qemu
def test_system_calls(monitor):
    """QEMU's system calls are filtered, by QEMU itself; libkrun has no such filter."""
    assert _status(monitor)["Seccomp"] == "2"


def test_session(monitor, sandbox):
    """It has a session of its own, so that a terminal's Ctrl-C does not reach it, and no terminal."""
    assert os.getsid(sandbox.info().pid) == sandbox.info().pid
    assert (monitor / "stat").read_text().rpartition(")")[2].split()[4] == "0"


def test_no_core_dumps(sandbox):
    """It dumps no core: that would be the guest's memory in a file."""
    assert resource.prlimit(sandbox.info().pid, resource.RLIMIT_CORE) == (0, 0)


def test_environment(monitor, driver, monkeypatch):
    """Nothing of the caller's environment reaches it."""
    monkeypatch.setenv("A_SECRET", "hunter2")
    with aegis.Sandbox(driver=driver) as vm:
        environment = Path(f"/proc/{vm.info().pid}/environ").read_bytes()
    assert {word.partition(b"=")[0] for word in environment.split(b"\0") if word} == {b"PATH", b"LANG"}


def test_descriptors(driver):
    """Nothing that the caller has open is open in it, and its disks are open for reading only."""
    mine = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(mine, True)
    with aegis.Sandbox(driver=driver) as vm:
        os.close(mine)
        open_here = Path(f"/proc/{vm.info().pid}/fd")
        targets = {int(fd.name): os.readlink(fd) for fd in open_here.iterdir()}
        assert "/etc/passwd" not in targets.values()
        disks = [fd for fd, target in targets.items() if target.endswith(".erofs")]
        assert len(disks) >= 2
        for fd in disks:
            flags = Path(f"/proc/{vm.info().pid}/fdinfo/{fd}").read_text().split("flags:")[1].split()[0]
            assert int(flags, 8) & os.O_ACCMODE == os.O_RDONLY


def test_nothing_in_the_file_system(driver, home):
    """A running guest has no socket, no pid file and no directory of its own anywhere under the home."""
    before = set(home.rglob("*"))
    with aegis.Sandbox(driver=driver) as vm:
        vm.run("true")
        assert set(home.rglob("*")) == before


def test_it_outlives_the_thread_that_asked_for_it(driver):
    """A sandbox that was made in a thread lives on when that thread has ended."""
    made: list[aegis.Sandbox] = []
    thread = threading.Thread(target=lambda: made.append(aegis.Sandbox(driver=driver)))
    thread.start()
    thread.join()
    with made[0] as vm:
        assert not until(lambda: vm.info().pid not in monitors(), 0.5)
        assert vm.run("echo", "on").stdout == "on\n"


def test_nothing_of_a_command_is_on_a_command_line(monitor, sandbox):
    """A command, its environment and its input are in no host process's arguments, while it runs."""
    with sandbox.start("sh", "-c", "sleep 50; : hunter2-argument", env={"A": "hunter2-value"}):
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert b"hunter2-" not in entry.read_bytes()
            except OSError:
                continue  # it has just ended
    assert (monitor / "cmdline").read_bytes()
