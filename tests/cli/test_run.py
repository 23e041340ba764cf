"""``aegis run``, as a user meets it."""

from __future__ import annotations

import hashlib
import os
import pty
import signal
import subprocess
import time

import pytest

from tests.conftest import AEGIS, monitors, until


def test_streams_and_exit_code(cli):
    """Both streams come each to its own, and the command's exit code is aegis's."""
    done = cli("run", "--", "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 42)


def test_options(cli):
    """Environment, directory, user, memory and processors reach the guest."""
    script = 'echo "$A"; pwd; id -un; nproc; grep MemTotal /proc/meminfo'
    options = ("-e", "A=b=c", "--cwd", "/tmp", "--user", "nobody", "--memory", "256", "--cpus", "2")
    done = cli("run", *options, "--", "sh", "-c", script)
    lines = done.stdout.decode().splitlines()
    assert lines, done.stderr
    assert lines[:4] == ["b=c", "/tmp", "nobody", "2"]
    assert int(lines[4].split()[1]) < 256 * 1024


def test_a_command_without_dashes(cli):
    """What follows the command's name is the command's, flags included."""
    assert cli("run", "echo", "--memory", "-n").stdout == b"--memory -n\n"


def test_writable(cli):
    """The root is read-only unless asked otherwise."""
    assert cli("run", "--", "touch", "/etc/x").returncode == 1
    assert cli("run", "--writable", "--", "touch", "/etc/x").returncode == 0


def test_time_limit(cli):
    """A command that runs out of time gives 124, and what it wrote before."""
    done = cli("run", "--timeout", "1", "--", "sh", "-c", "echo so far; sleep 100")
    assert (done.stdout, done.returncode) == (b"so far\n", 124)
    assert b"timed out after 1 s" in done.stderr


@pytest.mark.timeout(60)
def test_what_a_shell_would_say(cli):
    """127 for no such command, 126 for one that cannot be executed, 128 + N for a signal."""
    assert cli("run", "--", "nosuch").returncode == 127
    assert cli("run", "--", "/etc/passwd").returncode == 126
    assert cli("run", "--", "sh", "-c", "kill -9 $$").returncode == 137


def test_a_guest_that_dies(cli):
    """A guest that goes away under a command is 125, with words."""
    done = cli("run", "--", "poweroff", "-f")
    assert done.returncode == 125
    assert b"powered off" in done.stderr


@pytest.mark.timeout(120)
def test_many_megabytes(tmp_path):
    """80 MB of random bytes through ``cat`` come back as they went."""
    (tmp_path / "in").write_bytes(os.urandom(1 << 20) * 80)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as back:
        done = subprocess.run([*AEGIS, "run", "--", "cat"], stdin=source, stdout=back, timeout=110, check=True)
    assert done.returncode == 0
    first, second = (hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("in", "out"))
    assert first == second


@pytest.mark.timeout(60)
def test_both_streams_at_full_speed(cli):
    """Megabytes on both streams at once arrive whole."""
    done = cli("run", "--", "sh", "-c", "(yes | head -c 5000000) & (yes e | head -c 5000000 >&2) & wait")
    assert done.stdout == b"y\n" * 2_500_000
    assert done.stderr == b"e\n" * 2_500_000


def test_output_comes_while_the_command_runs():
    """A line is there when it is written."""
    with subprocess.Popen([*AEGIS, "run", "--", "sh", "-c", "echo first; sleep 100"], stdout=subprocess.PIPE) as aegis:
        assert aegis.stdout.readline() == b"first\n"
        aegis.kill()


@pytest.mark.parametrize("trap", ["", "trap 'echo bye; exit 7' INT; ", "trap '' INT TERM; "])
def test_ctrl_c(trap):
    """Ctrl-C reaches the command, ends it whatever it does about it, and aegis exits with 130."""
    command = [*AEGIS, "run", "--", "sh", "-c", f"{trap}echo up; while :; do sleep 1; done"]
    before = monitors()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as aegis:
        assert aegis.stdout.readline() == b"up\n"
        aegis.send_signal(signal.SIGINT)
        out, err = aegis.communicate(timeout=12)
    assert aegis.returncode == 130
    assert (b"bye" in out) == ("bye" in trap)
    assert b"Traceback" not in err
    assert until(lambda: monitors() <= before, 2)


def test_sigterm():
    """SIGTERM ends aegis and its guest, with 143."""
    before = monitors()
    with subprocess.Popen([*AEGIS, "run", "--", "sh", "-c", "echo up; sleep 100"], stdout=subprocess.PIPE) as aegis:
        aegis.stdout.readline()
        aegis.terminate()
        assert aegis.wait(10) == 143
    assert until(lambda: monitors() <= before, 2)


def test_a_reader_that_goes():
    """When nobody reads its output any more, aegis ends, as any program of a pipe does."""
    with subprocess.Popen([*AEGIS, "run", "--", "yes"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as aegis:
        aegis.stdout.read(100)
        aegis.stdout.close()
        assert aegis.wait(10) == 141
        assert b"Traceback" not in aegis.stderr.read()


def _shell(command: str) -> subprocess.CompletedProcess[bytes]:
    script = command.replace("aegis", " ".join(AEGIS))
    return subprocess.run(["bash", "-c", script], capture_output=True, timeout=60, check=False)


def test_closed_standard_streams():
    """Without standard input a command has none; without standard output, there is an error and not silence."""
    assert _shell("aegis run -- echo hello <&-").stdout == b"hello\n"
    done = _shell("aegis run -- seq 1000 >&-")
    assert done.returncode == 125
    assert b"Bad file descriptor" in done.stderr
    assert _shell("aegis run -- echo hello <&- 2>&-").stdout == b"hello\n"


def test_a_full_disk():
    """Output that cannot be written is an error of Aegis's, in words."""
    done = _shell("aegis run -- echo hello > /dev/full")
    assert done.returncode == 125
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_standard_input_that_does_not_block():
    """Input from a pipe that somebody made non-blocking arrives whole."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    with subprocess.Popen([*AEGIS, "run", "--", "cat"], stdin=ours, stdout=subprocess.PIPE) as aegis:
        os.close(ours)
        time.sleep(0.5)
        os.write(theirs, b"late\n")
        os.close(theirs)
        assert aegis.communicate(timeout=15)[0] == b"late\n"


def test_time_limit_while_nobody_reads():
    """A time limit holds while the reader of the output stands still."""
    done = _shell("set -o pipefail; time -p aegis run --timeout 1 -- yes | (sleep 4; wc -c)")
    assert done.returncode == 124
    assert b"timed out" in done.stderr


def test_nohup():
    """Under nohup, a hang-up does not end it."""
    command = ["nohup", *AEGIS, "run", "--", "sh", "-c", "echo up; sleep 2; echo on"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet) as aegis:
        assert aegis.stdout.readline() == b"up\n"
        aegis.send_signal(signal.SIGHUP)
        assert aegis.communicate(timeout=10)[0] == b"on\n"
    assert aegis.returncode == 0


def test_a_terminal_as_standard_input():
    """At a terminal, a line that is typed reaches the command."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([*AEGIS, "run", "--", "head", "-n", "1"], stdin=theirs, stdout=subprocess.PIPE) as aegis:
        time.sleep(0.5)
        os.write(ours, b"typed\n")
        assert aegis.communicate(timeout=15)[0] == b"typed\n"
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--memroy", "256", "--", "true"], b"--memory"),
        (["run", "--", *()], b"COMMAND"),
        (["run", "--env", "A", "--", "true"], b"NAME=VALUE"),
        (["run", "--timeout", "0", "--", "true"], b"more than 0"),
        (["run", "--memory", "7", "--", "true"], b"memory must be from"),
        (["run", "--cpus", "x", "--", "true"], b"--cpus"),
        (["run", "--driver", "xen", "--", "true"], b"choose one of: auto, libkrun, qemu"),
    ],
)
def test_wrong_words(cli, arguments, said):
    """A flag or a value that cannot be is named, with what would be right, and is no command's exit code."""
    done = cli(*arguments)
    assert done.returncode == 125
    assert said in done.stderr
    assert b"Traceback" not in done.stderr
