"""However a guest ends, who waits for it is told so, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import aegis_sdk as aegis
from tests.conftest import AEGIS, monitors, slowness, until

SLEEPER = "import aegis_sdk; aegis_sdk.Sandbox().run('sleep', '100')"


def _caught(call) -> tuple[list[BaseException], threading.Thread]:
    """Runs *call* in a thread; what it raises comes into the list."""
    caught: list[BaseException] = []

    def work() -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001  # whatever it is, the test looks at it
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.3)
    return caught, thread


def _dies(vm: aegis.Sandbox, end, *, within: float = 2) -> str:
    """What a waiting command says when *end* has ended the guest, in so many seconds."""
    caught, thread = _caught(lambda: vm.run("sleep", "100"))
    start = time.monotonic()
    end()
    thread.join(within * slowness())
    assert time.monotonic() - start < within * slowness()
    assert type(caught[0]) is aegis.GuestDied
    with pytest.raises(aegis.GuestDied):
        vm.run("true")
    return str(caught[0])


@pytest.mark.every_driver
@pytest.mark.both_engines
def test_killed_monitor(boot):
    """SIGKILL of the monitor is noticed at once, and named."""
    vm = boot()
    assert "SIGKILL" in _dies(vm, lambda: os.kill(vm.info().pid, signal.SIGKILL))


@pytest.mark.every_driver
def test_power_off(boot):
    """A guest that switches itself off has powered off, and its monitor is gone."""
    vm = boot()
    assert "powered off" in _dies(vm, lambda: vm.start("poweroff", "-f"))
    assert until(lambda: vm.info().pid not in monitors(), 2)


@pytest.mark.every_driver
def test_restart(boot):
    """A guest that restarts itself has ended."""
    vm = boot()
    assert "powered off or restarted" in _dies(vm, lambda: vm.start("reboot", "-f"))


def test_polite_power_off(boot):
    """poweroff without force asks PID 1, which complies."""
    vm = boot()
    assert "powered off" in _dies(vm, lambda: vm.start("poweroff"))


@pytest.mark.every_driver
def test_panic(boot):
    """A kernel panic is named, with the console's last lines."""
    vm = boot(memory=96)
    script = "echo 1 > /proc/sys/vm/panic_on_oom; exec tail /dev/zero"
    message = _dies(vm, lambda: vm.start("sh", "-c", script), within=10)  # the memory has to be filled first
    assert "out of memory" in message.lower()
    assert "last on its console" in message


def test_a_command_out_of_memory(boot):
    """A command that wants more memory than there is is killed for it, and the guest goes on."""
    vm = boot(memory=128)
    done = vm.run("tail", "/dev/zero")
    assert (done.exit_code, done.signal, done.out_of_memory) == (137, "SIGKILL", True)
    with pytest.raises(aegis.CommandFailed, match="out of memory"):
        vm.run("tail", "/dev/zero", check=True)
    assert vm.run("echo", "on").stdout == "on\n"


@pytest.mark.every_driver
@pytest.mark.both_engines
def test_closing_ends_what_runs(boot):
    """Closing a sandbox ends its commands; who waits for one is told that it was closed."""
    vm = boot()
    caught, thread = _caught(lambda: vm.run("sleep", "100"))
    vm.close()
    thread.join(60)
    assert type(caught[0]) is aegis.SandboxClosed
    with pytest.raises(aegis.SandboxClosed):
        vm.run("true")
    vm.close()


def test_an_exception_closes(driver):
    """Leaving the block by an exception ends the guest."""
    pids = []

    def fail() -> None:
        with aegis.Sandbox(driver=driver) as vm:
            pids.append(vm.info().pid)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert until(lambda: not monitors() & set(pids), 2)


@pytest.mark.every_driver
@pytest.mark.both_engines
def test_a_forgotten_sandbox_ends(driver):
    """A sandbox that nobody holds any more is gone."""
    pid = aegis.Sandbox(driver=driver).info().pid
    assert until(lambda: pid not in monitors(), 2)


def _script(text: str, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-X", "faulthandler", "-c", text]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


@pytest.mark.both_engines
def test_the_interpreters_end_ends_the_sandbox():
    """A program that ends without closing its sandbox leaves nothing, and says nothing of it."""
    script = "import aegis_sdk; vm = aegis_sdk.Sandbox(); print(vm.info().pid)"
    with _script(script, stderr=subprocess.PIPE) as program:
        out, err = program.communicate(timeout=100)
    assert "Traceback" not in err
    assert until(lambda: int(out) not in monitors(), 2)


def test_a_fork_does_not_end_the_sandbox():
    """A forked child that ends leaves its parent's sandbox alone."""
    script = """
import os, aegis_sdk
with aegis_sdk.Sandbox() as vm:
    if not (child := os.fork()):
        raise SystemExit
    os.waitpid(child, 0)
    print(vm.run("echo", "on").stdout, end="")
"""
    with _script(script) as program:
        assert program.communicate(timeout=100)[0] == "on\n"


def test_a_forked_child_is_told():
    """A forked child that uses its parent's sandbox is told that it may not, and the parent still hears of its end."""
    script = """
import os, signal, time, aegis_sdk
with aegis_sdk.Sandbox() as vm:
    if not os.fork():
        try:
            vm.run("true")
        except aegis_sdk.SandboxClosed:
            time.sleep(3)
        os._exit(0)
    process = vm.start("sleep", "100")
    os.kill(vm.info().pid, signal.SIGKILL)
    try:
        process.wait(timeout=2)
    except aegis_sdk.GuestDied:
        print("heard")
    print(os.WEXITSTATUS(os.wait()[1]))
"""
    with _script(script) as program:
        assert program.communicate(timeout=100)[0] == "heard\n0\n"


@pytest.mark.both_engines
def test_ctrl_c_ends_the_sandbox():
    """Ctrl-C in a program that waits for a command ends program and guest."""
    script = (
        "import aegis_sdk\nwith aegis_sdk.Sandbox() as vm: print(vm.info().pid, flush=True); vm.run('sleep', '100')"
    )
    with _script(script, stderr=subprocess.PIPE) as program:
        pid = int(program.stdout.readline())
        time.sleep(0.3)
        program.send_signal(signal.SIGINT)
        if not until(lambda: program.poll() is not None, 5):
            program.send_signal(signal.SIGABRT)  # it says where it is
            pytest.fail(f"it runs on: {program.stderr.read()}")
        assert "KeyboardInterrupt" in program.stderr.read()
    assert until(lambda: pid not in monitors(), 2)


def test_ctrl_c_that_another_thread_takes(sandbox):
    """The kernel may hand a process's signal to any of its threads: the command that the main one waits for ends."""
    idle = threading.Event()
    other = threading.Thread(target=idle.wait)
    other.start()
    timer = threading.Timer(0.5, lambda: signal.pthread_kill(other.ident or 0, signal.SIGINT))
    timer.start()
    start = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            sandbox.run("sleep", "100")
    finally:
        idle.set()
        timer.join()
        other.join()
    assert time.monotonic() - start < 3 * slowness()


@pytest.mark.both_engines
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("start", "delays"),
    [
        ((sys.executable, "-c", SLEEPER), (0.05, 0.15, 0.25, 0.4, 0.7, 1.5)),
        ((*AEGIS, "run", "--", "sleep", "100"), (0.1, 0.2, 0.3, 0.5, 1.0, 2.5)),
    ],
    ids=["a program", "aegis run"],
)
def test_sigkill_at_any_moment_leaves_nothing(start, delays, home, engine):
    """SIGKILL of the program, at any moment of its life, leaves no monitor 2 s later, and no half-made file."""
    patience = 2 if engine == "local" else 10  # the daemon brings a boot to its end first
    before = monitors()
    for delay in delays:
        with subprocess.Popen(start, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as program:
            time.sleep(delay)
            program.kill()
        assert until(lambda: monitors() <= before, patience), delay
    assert not list((home / "data").rglob(".partial"))


@pytest.mark.every_driver
@pytest.mark.timeout(60)
def test_sigkill_of_the_monitor_at_any_moment_of_a_boot(driver):
    """A monitor that is killed while its guest boots is a failed boot, said at once."""
    for delay in (0.0, 0.1, 0.3, 0.6):
        before = monitors()
        caught, thread = _caught(lambda: aegis.Sandbox(driver=driver).close())
        assert until(lambda seen=before: monitors() > seen, 5)  # type: ignore[misc]
        time.sleep(delay)
        for pid in monitors() - before:
            os.kill(pid, signal.SIGKILL)
        start = time.monotonic()
        thread.join(60)
        assert time.monotonic() - start < 2 * slowness()
        assert type(caught[0]) is aegis.BootFailed
        assert "SIGKILL" in str(caught[0])


@pytest.mark.every_driver
def test_a_monitor_that_stands_still(boot):
    """A time limit holds even when the guest cannot be reached, as an error that says so."""
    vm = boot()
    os.kill(vm.info().pid, signal.SIGSTOP)
    with pytest.raises(aegis.GuestNotResponding):
        vm.run("true", timeout=0.5)
    vm.close()


def test_a_program_without_standard_streams():
    """A program that has closed its standard streams boots guests, and none of them gets their numbers."""
    script = """
import os
report = os.fdopen(os.dup(1), "w")
for stream in range(3):
    os.close(stream)
import aegis_sdk
with aegis_sdk.Sandbox() as vm:
    print(vm.run("echo", "on").stdout, *[n for n in os.listdir("/proc/self/fd") if int(n) < 3], file=report)
    report.flush()
    os._exit(0)
"""
    with _script(script) as program:
        said = program.communicate(timeout=100)[0].split()
    assert said[0] == "on"
