"""``aegis shell`` and ``aegis run -it``, as somebody who sits at a terminal meets them."""

from __future__ import annotations

import os
import signal
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from tests.conftest import AEGIS, monitors, until

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings(
        "ignore:.*forkpty:DeprecationWarning"
    ),  # the threads here hold nothing that a child needs
]

PROMPT = "/ # "
Sit = Callable[..., "pexpect.spawn[bytes]"]


@pytest.fixture
def sit() -> Iterator[Sit]:
    """Starts ``aegis`` at a terminal of its own, of 30 rows and 100 columns."""
    spawned: list[pexpect.spawn[bytes]] = []

    def sit(*words: str) -> pexpect.spawn[bytes]:
        python, *arguments = (*AEGIS, *words)
        spawned.append(pexpect.spawn(python, arguments, dimensions=(30, 100), timeout=20))
        return spawned[-1]

    yield sit
    for child in spawned:
        child.close(force=True)


@pytest.fixture
def shell(sit: Sit) -> pexpect.spawn[bytes]:
    """A shell that waits for what is typed."""
    child = sit("shell")
    child.expect_exact(PROMPT)
    return child


def _modes(child: pexpect.spawn[bytes]) -> list[object]:
    return termios.tcgetattr(child.child_fd)


def _is_raw(child: pexpect.spawn[bytes]) -> bool:
    return not _modes(child)[3] & termios.ICANON  # type: ignore[operator]  # its flags are numbers


def _left(child: pexpect.spawn[bytes]) -> int | None:
    """The exit code, once it has ended; what comes until then is read."""
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def test_a_shell(shell):
    """It has a terminal of the guest's, and its exit code is aegis's."""
    shell.sendline("tty; uname -n; echo $TERM")
    shell.expect("/dev/pts/0\r\naegis-?\\S*\r\nxterm-256color\r\n")
    shell.sendline("exit 3")
    assert _left(shell) == 3


def test_its_size_follows(shell):
    """The size is the caller's terminal's, and follows it."""
    shell.sendline("stty size")
    shell.expect_exact("30 100")
    shell.sendline("sh -c \"trap 'stty size' WINCH; echo be''gun; while :; do sleep 0.1; done\"")
    shell.expect_exact("begun")
    shell.setwinsize(41, 123)
    shell.expect_exact("41 123")


def test_ctrl_c(shell):
    """Ctrl-C ends what runs, not the shell, and not aegis."""
    shell.sendline("sh -c 'echo be''gun; sleep 100'")
    shell.expect_exact("begun")
    shell.sendintr()
    shell.expect_exact(PROMPT)
    shell.sendline("echo $?")
    shell.expect_exact("130\r\n")


def test_ctrl_z(shell):
    """Ctrl-Z suspends a job of the guest's, and fg goes on with it."""
    shell.sendline("sh -c 'echo be''gun; sleep 1; echo sle''pt'")
    shell.expect_exact("begun")
    shell.sendcontrol("z")
    shell.expect_exact("Stopped")
    shell.expect_exact(PROMPT)
    shell.sendline("fg")
    shell.expect_exact("slept")


def test_ctrl_d(shell):
    """Ctrl-D leaves the shell."""
    shell.sendeof()
    assert _left(shell) == 0


def test_an_editor(shell):
    """vi edits a file."""
    shell.sendline("vi /tmp/file")
    shell.expect_exact("~")
    shell.send("ihello from vi\x1b")
    shell.expect_exact("hello from vi")
    shell.send(":wq\r")
    shell.expect_exact(PROMPT)
    shell.sendline("clear; cat /tmp/file; echo -e '\\033[31mred\\033[m'")
    shell.expect_exact("hello from vi\r\n\x1b[31mred\x1b[m\r\n")


def test_top(shell):
    """top draws the whole screen, and goes when it is told to."""
    shell.sendline("top")
    shell.expect("Mem: .* used")
    shell.expect_exact("[kthreadd]")
    shell.send("q")
    shell.expect_exact(PROMPT)


def test_which_shell(sit):
    """$SHELL is taken where it is there, else the usual one."""
    child = sit("shell", "-e", "SHELL=/bin/ash", "--user", "nobody", "--cwd", "/tmp")
    child.sendline("echo $0 $(id -un) $PWD; exit 1")
    child.expect_exact("/bin/ash nobody /tmp\r\n")
    assert _left(child) == 1
    child = sit("shell", "-e", "SHELL=/no/such/shell")
    child.sendline("echo $0; exit 2")
    child.expect_exact("/bin/sh\r\n")
    assert _left(child) == 2


def test_no_shell(sit):
    """A user that is not there is said once, and is no shell's exit code."""
    child = sit("shell", "--user", "nosuch")
    child.expect_exact("no user named nosuch in /etc/passwd\r\n")
    assert _left(child) == 125


@pytest.mark.parametrize("flags", [["-it"], ["-i", "--tty"]])
def test_run_at_a_terminal(sit, flags):
    """run -it gives one command the terminal, and exits with its code."""
    child = sit("run", *flags, "--", "sh", "-c", "tty; stty size; read word; echo got $word; exit 5")
    child.expect_exact("/dev/pts/0\r\n30 100\r\n")
    child.sendline("typed")
    child.expect_exact("typed\r\ngot typed\r\n")
    assert _left(child) == 5


def test_run_out_of_time(sit):
    """A time limit holds at a terminal, too, and is said on a terminal that is as before."""
    child = sit("run", "-it", "--timeout", "2", "--", "sleep", "100")
    child.expect_exact("aegis: timed out after 2 s\r\n")
    assert _left(child) == 124


def test_without_a_terminal(cli):
    """Where there is no terminal, an error says so before anything boots."""
    for words in (["run", "-it", "--", "true"], ["shell"]):
        done = cli(*words)
        assert done.returncode == 125
        assert b"terminal" in done.stderr
    assert cli("run", "-i", "--", "cat", input=b"passed on").stdout == b"passed on"


def test_a_command_that_is_not_there(sit):
    """What cannot be started is said as on any terminal."""
    child = sit("run", "-it", "--", "nosuch")
    child.expect("nosuch: not found in PATH [^\r\n]*\r\n$")
    assert _left(child) == 127


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda child: child.sendline("exit"), 0),
        (lambda child: child.sendline("poweroff -f"), 125),
        (lambda child: child.kill(signal.SIGTERM), 143),
        (lambda child: child.kill(signal.SIGHUP), 129),
        (lambda child: child.kill(signal.SIGQUIT), 131),
        (lambda child: (child.kill(signal.SIGTERM), child.kill(signal.SIGHUP)), None),
    ],
    ids=["exit", "an exception", "SIGTERM", "SIGHUP", "SIGQUIT", "two at once"],
)
def test_the_terminal_is_given_back(sit, end, code):
    """However it ends, the terminal is as it was before, and nothing is left."""
    machines = monitors()
    child = sit("shell")
    before = _modes(child)
    child.expect_exact(PROMPT)
    assert _is_raw(child)
    end(child)
    child.expect(pexpect.EOF)
    assert _modes(child) == before
    child.close()
    assert code is None or child.exitstatus == code  # of two, either may be the one
    assert until(lambda: monitors() <= machines, 2)


def test_an_error_at_a_terminal(shell):
    """What is said after the end is said on lines of their own, in words."""
    shell.sendline("poweroff -f")
    shell.expect("\r\naegis: [^\r\n]*powered off[^\r\n]*\r\n")


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def test_stopped_and_gone_on_with(sit):
    """While aegis is stopped the terminal is as before; when it goes on, the guest has it again, with its new size."""
    child = sit("shell")
    before = _modes(child)
    child.expect_exact(PROMPT)
    child.kill(signal.SIGTSTP)
    assert until(lambda: _state(child.pid) == "T", 5)
    assert _modes(child) == before
    child.setwinsize(20, 90)
    child.kill(signal.SIGCONT)
    assert until(lambda: _is_raw(child), 5)
    child.sendline("sleep 1; stty size")
    child.expect_exact("20 90")


def test_a_job_of_a_shell(tmp_path):
    """Started in the background it is stopped, as all that want the terminal; in the foreground it goes on."""
    environment = {**os.environ, "PS1": "here> ", "PYTHONPATH": os.getcwd()}
    child = pexpect.spawn("bash", ["--norc", "-i"], env=environment, dimensions=(30, 100), timeout=20)
    try:
        child.expect_exact("here> ")
        child.sendline("set -b")  # bash tells of its jobs at once
        child.sendline(" ".join((*AEGIS, "run", "-it", "--", "sh", "-c", "'read x; echo go''t $x'")) + " &")
        child.expect_exact("Stopped")
        child.sendline("fg")
        child.expect_exact("read x")
        child.sendline("it")
        child.expect_exact("got it")
        child.expect_exact("here> ")
        child.sendline("stty -a; exit")
        child.expect_exact("isig icanon")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)


@pytest.mark.parametrize("flags", [["-it"], []], ids=["at a terminal", "without one"])
def test_a_terminal_that_goes_away(flags):
    """Where hang-ups are ignored, a closed terminal is the end of the input, and the command goes on to its own."""
    script = "stty -echo 2>/dev/null; echo begun; cat; exit 5"
    command = " ".join((*AEGIS, "run", *flags, "--", "sh", "-c", f"'{script}'"))
    child = pexpect.spawn("sh", ["-c", f"trap '' HUP; exec {command}"], timeout=20)
    try:
        child.expect_exact("begun")
        child.ptyproc.fileobj.close()  # type: ignore[attr-defined]  # pexpect's stubs lack it
        assert until(lambda: not child.isalive(), 20)
        assert child.exitstatus == 5
    finally:
        child.close(force=True)


def test_an_orphan_in_the_background():
    """A terminal that nobody can bring it to is refused in words."""
    child = pexpect.spawn("bash", ["--norc", "-i"], dimensions=(30, 100), timeout=20)
    try:
        command = " ".join((*AEGIS, "run", "-t", "--", "true"))
        child.sendline(f"( ( {command} < /dev/tty; echo co''de $? ) & )")
        child.expect("aegis: this terminal cannot be had: [^\r\n]*\r\ncode 125\r\n")
    finally:
        child.close(force=True)


def test_input_from_a_terminal_output_to_a_file(tmp_path):
    """At a terminal with its output elsewhere, the output is there."""
    command = f"{' '.join(AEGIS)} run -it -- echo hello > {tmp_path}/out"
    child = pexpect.spawn("sh", ["-c", command], timeout=20)
    try:
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert (tmp_path / "out").read_bytes() == b"hello\r\n"


def test_help():
    """Both say what they do."""
    for name in ("run", "shell"):
        said = subprocess.run([*AEGIS, name, "--help"], capture_output=True, check=True, text=True).stdout
        assert "--memory" in said
