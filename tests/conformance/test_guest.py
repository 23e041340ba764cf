"""What every guest looks like from inside."""

from __future__ import annotations

import time

import pytest

import aegis_sdk as aegis
from tests.conftest import slowness


@pytest.mark.every_driver
def test_the_root_is_read_only(sandbox):
    """Nothing can be written outside the places that are for it."""
    done = sandbox.run("touch", "/etc/x")
    assert done.exit_code == 1
    assert "Read-only file system" in done.stderr


@pytest.mark.parametrize("directory", ["/tmp", "/run", "/var/tmp", "/workspace", "/dev/shm"])
def test_writable_places(sandbox, directory):
    """The places that are for it can be written to."""
    assert sandbox.shell(f"echo x > {directory}/aegis-test && cat {directory}/aegis-test").stdout == "x\n"


@pytest.mark.parametrize("directory", ["/tmp", "/var/tmp", "/workspace"])
def test_writable_places_for_any_user(sandbox, directory):
    """A user of no privileges has the usual places to write to."""
    assert sandbox.shell(f"touch {directory}/by-nobody", user="nobody").ok


def test_a_writable_root(boot):
    """With writable, the whole root can be written to, and the next guest sees none of it."""
    assert boot(writable=True).shell("echo x > /etc/x && rm /bin/vi && cat /etc/x").stdout == "x\n"
    assert boot(writable=True).shell("test ! -e /etc/x && test -e /bin/vi").ok


def test_a_remount_does_not_reach_the_disk(boot):
    """A guest's root may remount its root; the image's disk stays what it was."""
    vm = boot()
    vm.shell("mount -o remount,rw / && echo x > /etc/x; echo x > /dev/vdb; echo x > /dev/vda")
    assert not boot().shell("test -e /etc/x").ok


@pytest.mark.every_driver
def test_what_every_program_expects(sandbox):
    """/proc, /sys, /dev, pseudo-terminals, shared memory, hosts, host name and resolver are there."""
    script = """
        set -e
        test -r /proc/self/status -a -d /sys/class -a -c /dev/null -a -c /dev/ptmx -a -d /dev/pts -a -d /dev/shm
        test -L /dev/fd -a -L /dev/stdin -a -L /dev/stdout -a -L /dev/stderr
        grep -q localhost /etc/hosts
        test -e /etc/resolv.conf
        test "$(hostname)" = "$(cat /etc/hostname)"
        grep -q "$(hostname)" /etc/hosts
        head -c 16 /dev/urandom >/dev/null
        echo fine
    """
    assert sandbox.shell(script).stdout == "fine\n"


def test_the_harness_leaves_nothing_of_itself_in_the_tree(sandbox):
    """The harness's own disk and layers cannot be reached from the guest's tree."""
    mounts = [line.split()[:2] for line in sandbox.run("cat", "/proc/mounts").stdout.splitlines()]
    assert ["overlay", "/"] in mounts
    assert not [mount for mount in mounts if mount[0].startswith("/dev/vd") or mount[1].startswith("/mnt")]
    assert sandbox.run("ls", "-A", "/mnt").stdout == ""


@pytest.mark.every_driver
def test_no_network_card(sandbox):
    """The guest's only interface is the loopback, and it is up."""
    assert sandbox.run("ls", "/sys/class/net").stdout.split() == ["lo"]
    assert int(sandbox.run("cat", "/sys/class/net/lo/flags").stdout, 16) & 1


def test_the_clock_is_right(sandbox):
    """A guest's clock is the host's when a command begins, however long it has run, and on however busy a host.

    It may be half a second behind, which the harness leaves alone, and a tenth ahead, as two clocks that are read here.
    """
    before = int(time.time() - 0.6)
    assert before <= int(sandbox.run("date", "+%s").stdout) <= time.time() + 0.1


def test_the_clock_follows_a_host_that_has_slept(boot, monkeypatch):
    """Commands, and what files are written, have the host's time, also when the guest has missed a part of it."""
    vm = boot()
    passed, now = 3600, time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + passed * 10**9)
    for _ in range(2):
        assert abs(int(vm.run("date", "+%s").stdout) - time.time() - passed) < 2 * slowness()
        passed += 3600
    vm.files.write("/tmp/x", b"")
    assert abs(vm.files.stat("/tmp/x").mtime_ns - time.time_ns()) < 2e9 * slowness()


def test_a_clock_that_the_guest_has_set(boot):
    """A time that root in the guest has set stays."""
    vm = boot()
    vm.run("date", "-s", "@1000000000", check=True)
    assert abs(int(vm.run("date", "+%s").stdout) - 1000000000) < 5 * slowness()


def test_guests_differ_in_their_random_numbers(boot):
    """Two guests do not draw the same random numbers."""
    draws = {boot().shell("head -c 16 /dev/urandom | md5sum; cat /proc/sys/kernel/random/boot_id").stdout for _ in "ab"}
    assert len(draws) == 2


@pytest.mark.every_driver
def test_memory_and_processors(boot):
    """memory and cpus are what the guest has."""
    vm = boot(memory=256, cpus=2)
    assert vm.run("nproc").stdout == "2\n"
    total = int(vm.shell("grep MemTotal /proc/meminfo").stdout.split()[1]) >> 10
    assert 200 < total <= 256


@pytest.mark.every_driver
def test_what_a_sandbox_says_of_itself(boot):
    """info() names the driver, the kernel and the phases of the boot."""
    vm = boot()
    info = vm.info()
    assert info.kernel == vm.run("uname", "-r").stdout.strip()
    assert info.accelerator in ("tcg", "kvm")
    assert info.driver_reason == "it was asked for by name"
    assert list(info.phases)[:3] == ["disks", "monitor", "kernel"]
    assert all(seconds >= 0 for seconds in info.phases.values())
    assert info.id in repr(vm)


@pytest.mark.every_driver
def test_the_choice(driver):
    """auto takes libkrun where hardware virtualization works and QEMU elsewhere, and says why."""
    with aegis.Sandbox(driver="auto") as vm:
        info = vm.info()
    if info.driver == "qemu":
        assert driver == "qemu"  # what boots guests here is not libkrun, or auto would have taken it
        assert info.driver_reason.startswith("not libkrun, because ")
    else:
        assert (info.driver, info.driver_reason) == ("libkrun", "it is the first choice, and can be used here")


def test_on_the_command_line(cli, driver, sandbox):
    """``aegis run --driver`` boots a guest of that driver."""
    done = cli("run", "--driver", driver, "--", "uname", "-r")
    assert done.stdout.decode().strip() == sandbox.info().kernel


def test_commands_get_none_of_the_harnesss_descriptors(sandbox):
    """A command has its three streams open, and nothing of the harness."""
    assert sandbox.shell("ls /proc/$$/fd | tr '\\n' ' '").stdout.startswith("0 1 2")
    assert "vport" not in sandbox.shell("ls -l /proc/$$/fd").stdout


def test_commands_are_ordinary_processes(sandbox):
    """Commands have no privilege of the harness's: not in memory, not in processor time, not in open files."""
    script = "cat /proc/self/oom_score_adj; ulimit -Sn; umask; cut -d' ' -f19,41 /proc/self/stat"
    assert sandbox.shell(script).stdout.split() == ["0", "1024", "0022", "0", "0"]
