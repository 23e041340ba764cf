"""What every command in every guest can rely on."""

from __future__ import annotations

import hashlib
import os
import threading
import time

import pytest

import aegis_sdk as aegis
from tests.conftest import slowness, until


@pytest.fixture
def sandbox(by_face):
    """A guest to run commands in, by each face."""
    return by_face


def test_a_command_answers(sandbox):
    """A command's output, exit code and duration come back."""
    done = sandbox.run("echo", "hello")
    assert (done.stdout, done.stderr, done.exit_code, done.ok) == ("hello\n", "", 0, True)
    assert 0 < done.duration < 10 * slowness()


def test_the_guest_is_not_the_host(sandbox):
    """Commands run on the guest's kernel, not on the host's."""
    assert sandbox.run("uname", "-r").stdout.strip() not in ("", os.uname().release)


def test_a_failed_command_is_a_result(sandbox):
    """A command that fails gives its exit code and raises nothing."""
    done = sandbox.run("sh", "-c", "exit 3")
    assert (done.exit_code, done.ok, done.signal) == (3, False, None)


def test_check_raises(sandbox):
    """With check, a failure is an exception that carries the result and shows the last of stderr."""
    with pytest.raises(aegis.CommandFailed, match="no such thing") as caught:
        sandbox.shell("echo no such thing >&2; exit 4", check=True)
    assert caught.value.result.exit_code == 4


def test_streams_are_apart(sandbox):
    """stdout and stderr come back each as itself."""
    done = sandbox.shell("echo out; echo err >&2; exit 42")
    assert (done.stdout_bytes, done.stderr_bytes, done.exit_code) == (b"out\n", b"err\n", 42)


def test_the_harness_is_pid_1(sandbox):
    """PID 1 is the harness."""
    assert sandbox.shell("cat /proc/1/comm").stdout == "init\n"


def test_long_commands(sandbox):
    """Arguments and environment may take up to 1 MiB on their way; more is refused, and the guest lives on."""
    words = ["y" * 100_000] * 6
    assert sandbox.run("sh", "-c", "echo $#", "sh", *words, env={"A": "z" * 100_000}).stdout == "6\n"
    with pytest.raises(aegis.InvalidValue, match="at most"):
        sandbox.run("true", *["y" * 100_000] * 11)
    assert sandbox.run("echo", "on").stdout == "on\n"


def test_a_time_limit_under_a_flood(sandbox):
    """A command that never stops writing is ended in time."""
    done = sandbox.run("cat", "/dev/zero", timeout=1)
    assert done.timed_out
    assert done.duration < 5 * slowness()


def test_errors_are_fit_for_a_terminal(sandbox):
    """What a command wrote cannot act on the terminal that shows the error."""
    with pytest.raises(aegis.CommandFailed) as caught:
        sandbox.shell(r"printf '\033]0;title\007' >&2; exit 1", check=True)
    assert "\033" not in str(caught.value)
    assert "\007" not in str(caught.value)


def test_input_and_output_are_bytes(sandbox):
    """Any byte goes in and comes out as it is."""
    data = bytes(range(256)) * 3
    assert sandbox.run("cat", input=data).stdout_bytes == data


def test_text_input(sandbox):
    """Text goes in as UTF-8; output that is no UTF-8 is still text."""
    assert sandbox.run("cat", input="grüß\n").stdout == "grüß\n"
    assert sandbox.shell(r"printf '\377'").stdout == "\N{REPLACEMENT CHARACTER}"


def test_no_input_is_an_empty_input(sandbox):
    """A command that reads and is given nothing sees the end of its input."""
    assert sandbox.run("cat").stdout == ""


def test_unread_input_is_no_error(sandbox):
    """A command need not read its input."""
    assert sandbox.run("true", input=b"x" * (4 << 20)).ok


def test_environment(sandbox):
    """env adds to the command's environment, values of any shape."""
    value = "a b\"c'd$e\\f=g\nh\x01ü"
    assert sandbox.run("sh", "-c", 'printf %s "$A"', env={"A": value}).stdout == value
    assert "/bin" in sandbox.run("sh", "-c", "echo $PATH").stdout


def test_arguments_arrive_as_they_are(sandbox):
    """Nothing in an argument is interpreted on the way, bytes that are not UTF-8 included."""
    words = ["", " ", "a b", "$HOME", "`id`", "'\"", "\n", "*", "ü", os.fsdecode(b"\xff\xfe"), "x" * 100_000]
    out = sandbox.run("sh", "-c", r'for w; do printf "%s\0" "$w"; done', "sh", *words).stdout_bytes
    assert out == b"".join(os.fsencode(word) + b"\0" for word in words)


def test_working_directory(sandbox):
    """cwd is where the command starts; one that is not there is said."""
    assert sandbox.run("pwd", cwd="/tmp").stdout == "/tmp\n"
    done = sandbox.run("pwd", cwd="/not/there")
    assert done.exit_code == 125
    assert "/not/there" in done.stderr


def test_users(sandbox):
    """user is a name or a number of the image, with a group if wanted."""
    assert sandbox.run("id", "-un", user="nobody").stdout == "nobody\n"
    assert sandbox.run("sh", "-c", "id -u; id -g", user="1234:42").stdout == "1234\n42\n"
    assert sandbox.run("sh", "-c", "echo $HOME").stdout == "/root\n"
    done = sandbox.run("true", user="mallory")
    assert done.exit_code == 125
    assert "mallory" in done.stderr


def test_everything_at_once(sandbox):
    """Input, environment, directory, user, time limit and check work together."""
    script = 'cat; printf %s "$A"; pwd; id -un'
    done = sandbox.run("sh", "-c", script, input=b"\0\xff", env={"A": "1"}, cwd="/tmp", user="nobody", check=True)
    assert done.stdout_bytes == b"\0\xff1/tmp\nnobody\n"


def test_missing_command(sandbox):
    """A command that the image does not have: 127, and its name."""
    for name in ("nosuch", "/no/such"):
        done = sandbox.run(name)
        assert done.exit_code == 127
        assert name in done.stderr


def test_command_that_is_not_executable(sandbox):
    """A file that may not be executed, and a directory: 126, and its name."""
    for name in ("/etc/passwd", "/tmp"):
        done = sandbox.run(name)
        assert done.exit_code == 126
        assert name in done.stderr


def test_a_signal_is_named(sandbox):
    """A command killed by signal N has exit code 128 + N and the signal's name."""
    done = sandbox.shell("kill -TERM $$")
    assert (done.exit_code, done.signal, done.ok) == (143, "SIGTERM", False)


def test_time_limit(sandbox):
    """A command that runs out of time is ended, and the result says so."""
    done = sandbox.run("sleep", "100", timeout=0.5)
    assert done.timed_out
    assert not done.ok
    assert done.signal == "SIGTERM"
    assert 0.5 <= done.duration < 5 * slowness()
    with pytest.raises(aegis.CommandTimedOut):
        sandbox.run("sleep", "100", timeout=0.2, check=True)


def test_output_before_the_time_limit_is_kept(sandbox):
    """What a command wrote before it ran out of time comes back."""
    assert sandbox.shell("echo so far; sleep 100", timeout=1).stdout == "so far\n"


def test_a_command_that_ignores_sigterm_goes(sandbox, guests, engine):
    """5 s after its time limit it is gone, with children, and with children that left its process group."""
    script = "trap '' TERM; sleep 987 & setsid sh -c \"trap '' TERM; sleep 987\" & while :; do sleep 987; done"
    with guests[engine].start("sh", "-c", script) as process:
        assert until(lambda: sandbox.shell("ps | grep -c '[s]leep 987$'").stdout == "3\n", 5)
        process.end(grace=0.5)
        assert process.wait() == 137
    assert sandbox.shell("ps | grep '[s]leep 987'").stdout == ""
    done = sandbox.shell(script, timeout=0.5)
    assert done.signal == "SIGKILL"
    assert 5 <= done.duration < 8 * slowness()


@pytest.mark.parametrize("timeout", [float("inf"), 1e9])
def test_time_limits_beyond_any_clock(sandbox, timeout):
    """A limit of years is none."""
    assert sandbox.run("true", timeout=timeout).ok


@pytest.mark.parametrize("timeout", [0, -1, True, "5", float("nan")])
def test_time_limits_that_cannot_be_meant(sandbox, timeout):
    """Only more than 0 seconds is a time limit; nothing runs under another."""
    with pytest.raises(aegis.InvalidValue, match="timeout"):
        sandbox.run("true", timeout=timeout)


def test_background_children_do_not_hold_a_command_up(sandbox):
    """A command has ended when it has ended, and what it leaves running runs on."""
    done = sandbox.shell("sleep 100 & echo $!", timeout=15)
    assert done.ok
    assert sandbox.shell(f"kill -0 {done.stdout.strip()}").ok
    sandbox.run("kill", done.stdout.strip())


def test_orphans_are_reaped(sandbox):
    """Processes that lose their parent do not stay as zombies."""
    sandbox.shell("for i in 1 2 3 4 5; do (sh -c 'sleep 0.1 &') ; done")
    time.sleep(1)
    assert "Z" not in sandbox.shell("cat /proc/[0-9]*/stat | cut -d' ' -f3").stdout


@pytest.mark.timeout(80)  # in a nested guest 10 MB/s is much
def test_large_output_without_a_newline(sandbox):
    """30 MB in one line arrive."""
    done = sandbox.shell("head -c 30000000 /dev/zero")
    assert len(done.stdout_bytes) == 30_000_000
    assert not done.stdout_bytes.strip(b"\0")


def test_both_streams_at_full_speed(sandbox):
    """Both streams at once arrive whole, in order each."""
    script = "(yes out | head -c 8000000) & (yes err | head -c 8000000 >&2) & wait"
    done = sandbox.shell(script)
    assert done.stdout_bytes == (b"out\n" * 2_000_000)
    assert done.stderr_bytes == (b"err\n" * 2_000_000)


@pytest.mark.timeout(60)
def test_large_input(sandbox):
    """20 MB of random bytes through ``cat`` come back as they went."""
    data = os.urandom(20_000_000)
    back = sandbox.run("cat", input=data).stdout_bytes
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()


def test_sixty_four_commands_at_once(sandbox):
    """64 commands run side by side in a guest of one processor, and all return."""
    done: dict[int, str] = {}

    def one(number: int) -> None:
        done[number] = sandbox.shell(f"sleep 0.5; echo {number}").stdout

    threads = [threading.Thread(target=one, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == {number: f"{number}\n" for number in range(64)}


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), {}),
        (("",), {}),
        (("a\0b",), {}),
        ((1,), {}),
        (("true",), {"env": {"A=B": "1"}}),
        (("true",), {"env": {"": "1"}}),
        (("true",), {"env": {"A": "x\0"}}),
        (("true",), {"env": {"A": 1}}),
        (("true",), {"cwd": "a\0"}),
        (("\ud800",), {}),
        ((["echo", "x"],), {}),
        (("true",), {"env": ["A=1"]}),
        (("true",), {"input": 5}),
        (("true",), {"input": "\ud800"}),
    ],
)
def test_commands_that_cannot_be_meant(sandbox, arguments, options):
    """What no system could run is refused here, in words, and not passed on."""
    with pytest.raises(aegis.InvalidValue):
        sandbox.run(*arguments, **options)
