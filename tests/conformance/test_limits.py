"""Memory, disk, processes, time and noise have limits: who reaches one is told so, and everything else goes on."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

import aegis_sdk as aegis
from tests.conftest import slowness, until

FORK_BOMB = "b() { b | b | sleep 1000 & }; b; sleep 1000"


def _answers(vm: aegis.Sandbox, *, within: float) -> None:
    """Whether commands that are short are still run, in that time."""
    start, within = time.monotonic(), within * slowness()
    assert vm.run("echo", "on", timeout=within).stdout == "on\n"
    assert time.monotonic() - start < within


@pytest.mark.timeout(200)
def test_the_disk(boot):
    """Files may take what was asked for; more is an error with a hint, and what is removed is room again."""
    vm = boot(disk=48)
    for directory in ("/tmp", "/workspace", "/var/tmp", "/dev/shm"):
        done = vm.shell(f"dd if=/dev/zero of={directory}/big bs=1M count=60")
        assert not done.ok
        assert "No space left" in done.stderr
        assert "--disk" in done.hint
        assert vm.shell(f"cd {directory}; rm big; dd if=/dev/zero of=big bs=1M count=40 && rm big").ok
    assert vm.info().disk == 48


def test_the_disk_holds_for_a_writable_root(boot):
    """What is written to the root counts, too."""
    vm = boot(disk=32, writable=True)
    assert vm.shell("dd if=/dev/zero of=/etc/a bs=1M count=20").ok
    assert "No space left" in vm.shell("dd if=/dev/zero of=/usr/b bs=1M count=20").stderr
    assert "No space left" in vm.shell("dd if=/dev/zero of=/tmp/c bs=1M count=20").stderr


@pytest.mark.timeout(200)
def test_a_full_disk_leaves_memory_to_run_in(boot):
    """A guest whose every writable place is full still runs commands, and can be tidied up."""
    vm = boot(memory=128)
    for directory in ("/tmp", "/dev/shm", "/var/tmp", "/run", "/workspace"):
        vm.shell(f"cat /dev/zero > {directory}/all", timeout=30 * slowness())
    _answers(vm, within=10)
    assert vm.shell("rm /tmp/all; echo x > /tmp/x && cat /tmp/x").stdout == "x\n"


def test_more_than_there_is(boot):
    """A disk that the memory has no room for fails the boot, with what the memory has room for."""
    with pytest.raises(aegis.BootFailed, match=r"a disk of 128 MiB is too much: the memory has room for \d+ MiB"):
        boot(memory=128, disk=128)


@pytest.mark.parametrize(
    "limits",
    [
        {"disk": 0},
        {"disk": 513},
        {"disk": "1g"},
        {"disk": True},
        {"processes": 15},
        {"processes": 1 << 20},
        {"processes": 1.5},
        {"memory": 95},
        {"cpus": 0},
        {"cpus": 17},
    ],
)
def test_limits_that_cannot_be_meant(limits):
    """What no guest can have is refused before anything boots."""
    with pytest.raises(aegis.InvalidValue, match=next(iter(limits))):
        aegis.Sandbox(**limits)


@pytest.mark.of_qemu  # the machine that libkrun's guests are tested in has not that much memory
@pytest.mark.timeout(200)
def test_past_a_gibibyte(boot):
    """One file may be larger than 1 GiB: nothing but the disk limits its size."""
    vm = boot(memory=2048, disk=1200)
    assert vm.shell("ulimit -f").stdout == "unlimited\n"
    done = vm.shell("truncate -s 1100M /tmp/f && dd if=/dev/zero of=/tmp/f bs=1M count=60 seek=1080 conv=notrunc")
    assert done.ok, done.stderr
    assert vm.run("stat", "-c", "%s", "/tmp/f").stdout == f"{1140 << 20}\n"


@pytest.mark.timeout(200)
def test_processes(boot):
    """A command that is refused a process says so in its result; others go on."""
    vm = boot(processes=40)
    done = vm.shell("i=0; while [ $i -lt 60 ]; do sleep 30 & i=$((i + 1)); done; wait", timeout=20 * slowness())
    assert (done.ok, done.out_of_processes) == (False, True)
    assert "--processes" in done.hint
    _answers(vm, within=10)
    assert not vm.run("true").out_of_processes
    with pytest.raises(aegis.CommandFailed, match="limit of processes"):
        vm.shell(
            "i=0; while [ $i -lt 60 ]; do sleep 30 & i=$((i + 1)); done; wait", check=True, timeout=20 * slowness()
        )


def test_no_room_for_a_command(boot):
    """A command that cannot start because there are too many processes says so."""
    vm = boot(processes=16)
    sleepers = [vm.start("sleep", "100") for _ in range(20)]
    assert [one.pid for one in sleepers].count(None) == 4
    done = vm.run("true")
    assert (done.exit_code, done.stderr) == (125, "/bin/true: too many processes run in this guest\n")
    assert "--processes" in done.hint


@pytest.mark.timeout(200)
def test_a_fork_bomb(boot):
    """While one goes off, the guest answers, and it ends with its command."""
    vm = boot(memory=256, processes=200)
    with vm.start("sh", "-c", FORK_BOMB) as bomb:
        time.sleep(2)
        for _ in range(3):
            _answers(vm, within=15)
        assert vm.info().state is aegis.State.RUNNING
        bomb.end(grace=0.5)
        bomb.wait(timeout=30 * slowness())
        assert bomb.out_of_processes
    assert until(lambda: int(vm.shell("ls -d /proc/[0-9]* | wc -l").stdout) < 80, 20)


@pytest.mark.timeout(200)
def test_memory_that_runs_out(boot):
    """Commands that want more memory than there is are killed for it, one after the other, and the guest answers."""
    vm = boot(memory=128)
    hogs = [
        threading.Thread(target=vm.run, args=("tail", "/dev/zero"), kwargs={"timeout": 30 * slowness()})
        for _ in range(2)
    ]
    for hog in hogs:
        hog.start()
    _answers(vm, within=20)
    for hog in hogs:
        hog.join()
    done = vm.run("tail", "/dev/zero", timeout=30 * slowness())
    assert done.out_of_memory
    assert "--memory" in done.hint


def test_the_harness_is_not_chosen(boot):
    """The harness can neither be killed for lack of memory nor starved: it is in no command's group."""
    vm = boot()
    assert vm.run("cat", "/proc/1/cgroup").stdout == "0::/\n"
    assert vm.run("cat", "/proc/self/cgroup").stdout.startswith("0::/aegis/")
    assert vm.shell("kill -9 1; kill -STOP 1; echo on").stdout == "on\n"


def _memory_of_this_process() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(200)
def test_a_flood_of_the_console(boot, tmp_path):
    """What root of a guest writes to its console and to the kernel's log fills neither memory nor disk of the host."""
    vm = boot()
    vm.shell("echo on > /proc/sys/kernel/printk_devkmsg")
    before, free = _memory_of_this_process(), os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    line = "x" * 100 + "\\033]0;title\\007"
    with vm.start("sh", "-c", f"while :; do printf '{line}\\n' > /dev/console; done") as flood:
        with vm.start("sh", "-c", f"while :; do printf '<0>{line}\\n' > /dev/kmsg; done"):
            time.sleep(4)
            _answers(vm, within=15)
        assert flood.exit_code is None
    said = vm.logs()
    assert 1000 < len(said) <= 64 << 10
    assert "\\033" not in said
    assert "\\007" not in said
    assert _memory_of_this_process() - before < 20 << 20
    after = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert free - after < 200 << 20
