"""Commands that are talked to while they run."""

from __future__ import annotations

import gc
import signal
import threading
import time

import pytest

import aegis_sdk as aegis
from tests.conftest import until

pytestmark = pytest.mark.both_engines


@pytest.mark.every_driver
def test_lines_come_as_they_are_written(sandbox):
    """Each line is there when it is written, not when the command has ended."""
    with sandbox.start("sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.5; done") as process:
        times = []
        for number, line in enumerate(process.stdout, 1):
            assert line == f"{number}\n"
            times.append(time.monotonic())
        assert times[2] - times[0] > 0.7
        assert process.wait() == 0


def test_last_line_without_newline(sandbox):
    """A last line without a newline is a line, and empty lines are lines."""
    assert list(sandbox.start("printf", "a\n\nb").stdout) == ["a\n", "\n", "b"]


def test_exit_code_while_it_runs(sandbox):
    """exit_code is None while the command runs, and does not wait."""
    with sandbox.start("sleep", "100") as process:
        assert process.exit_code is None
        process.kill()
        assert process.wait() == 137
        assert (process.exit_code, process.signal) == (137, "SIGKILL")


def test_conversation(sandbox):
    """A command is written to and answers, line by line."""
    with sandbox.start("cat", stdin=True) as process:
        lines = iter(process.stdout)
        for word in ("one\n", "two\n"):
            process.write(word)
            assert next(lines) == word
        process.close_stdin()
        assert process.wait() == 0
        assert list(lines) == []


def test_wait_gives_up(sandbox):
    """wait(timeout) raises TimeoutError and the command runs on."""
    with sandbox.start("sleep", "100") as process:
        with pytest.raises(TimeoutError):
            process.wait(timeout=0.2)
        assert process.exit_code is None


def test_signals_reach_the_group(sandbox):
    """A signal goes to the command's children, too, and may be handled."""
    with sandbox.start("sh", "-c", "trap 'echo caught; exit 5' INT; sleep 100 & wait") as process:
        assert process.pid
        time.sleep(0.3)
        process.kill("SIGINT")
        assert process.stdout.read() == "caught\n"
        assert process.wait() == 5


def test_kill_right_after_start(sandbox):
    """A signal sent at once is not lost."""
    for _ in range(10):
        with sandbox.start("sleep", "100") as process:
            process.kill(signal.SIGTERM)
            assert process.wait() == 143


def test_kill_after_the_end(sandbox):
    """Signalling what has ended is fine; a signal that does not exist is not."""
    process = sandbox.start("true")
    process.wait()
    process.kill()
    process.end()
    with pytest.raises(aegis.InvalidValue):
        process.kill("SIGNOSUCH")


@pytest.mark.every_driver
def test_closing_ends_the_command(sandbox):
    """Leaving the block ends the command and its children."""
    with sandbox.start("sh", "-c", "sleep 4321 & sleep 4321") as process:
        assert until(lambda: _count(sandbox, "4321") == 2, 5)
    assert until(lambda: _count(sandbox, "4321") == 0, 3)
    with pytest.raises(aegis.SandboxClosed):
        process.wait()


def _count(sandbox: aegis.Sandbox, seconds: str) -> int:
    return int(sandbox.shell(f"ps | grep -c '[s]leep {seconds}'").stdout)


def test_closing_while_input_is_stuck(sandbox):
    """A command that does not read what it is given ends when it is closed, too, and gives everything back."""
    for _ in range(4):
        with sandbox.start("sleep", "5432", stdin=True) as process:
            writer = threading.Thread(target=lambda process=process: _ignore(process))
            writer.start()
            time.sleep(0.2)
        writer.join(60)
        assert not writer.is_alive()
    assert until(lambda: _count(sandbox, "5432") == 0, 5)


def test_closing_from_a_signal_handler(sandbox):
    """A signal handler may close what the thread that it interrupts waits for."""
    process = sandbox.start("sleep", "100")
    before = signal.signal(signal.SIGALRM, lambda *_: process.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(aegis.SandboxClosed):
            process.wait(timeout=10)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_interrupts_at_any_moment(sandbox):
    """However often a reader is interrupted, its process can be read on and closed."""

    class Interruption(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with sandbox.start("sh", "-c", "while :; do echo x; done") as process:
            for _ in range(150):
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.003)  # which may be over before it returns
                    for _ in process.stdout.chunks():
                        pass
                except Interruption:
                    continue
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert next(process.stdout.chunks())
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("grace", [-1, float("inf"), float("nan"), "x", True])
def test_graces_that_cannot_be_meant(sandbox, grace):
    """A grace is seconds, and is refused here if it is not."""
    with sandbox.start("sleep", "100") as process, pytest.raises(aegis.InvalidValue, match="grace"):
        process.end(grace)


def test_a_forgotten_process_runs_on(boot):
    """A command does not end because nobody holds its object."""
    vm = boot()
    vm.start("sh", "-c", "sleep 1; echo done > /tmp/forgotten")
    gc.collect()
    time.sleep(2)
    assert vm.run("cat", "/tmp/forgotten").stdout == "done\n"


def test_unread_output_is_kept(sandbox):
    """One stream can be read to its end and then the other, megabytes of both."""
    script = "yes out | head -c 10000000; yes err | head -c 10000000 >&2; echo end"
    with sandbox.start("sh", "-c", script) as process:
        assert len(process.stdout.read_bytes()) == 10_000_004
        assert len(process.stderr.read_bytes()) == 10_000_000


def test_unread_output_is_bounded(sandbox):
    """A stream that nobody reads does not fill the host's memory: an error says which one it is."""
    with sandbox.start("sh", "-c", "cat /dev/zero >&2") as process, pytest.raises(aegis.OutputNotRead, match="stderr"):
        process.stdout.read()


def test_output_nobody_reads_blocks_nobody_else(sandbox):
    """A command whose output is not read waits alone; all others go on, and it can be ended."""
    with sandbox.start("cat", "/dev/zero") as stuck:
        time.sleep(0.5)
        assert sandbox.run("echo", "on").stdout == "on\n"
        stuck.end(grace=0.5)
        assert sandbox.run("head", "-c", "5000000", "/dev/zero").ok


def test_a_command_that_does_not_read_can_be_ended(sandbox):
    """Input that nobody takes does not keep a signal from its command."""
    with sandbox.start("sleep", "100", stdin=True) as process:
        writer = threading.Thread(target=lambda: _ignore(process))
        writer.start()
        time.sleep(0.5)
        process.kill("SIGTERM")
        assert process.wait() == 143
        writer.join(60)
        assert not writer.is_alive()


def _ignore(process: aegis.Process) -> None:
    with pytest.raises((aegis.InputClosed, aegis.SandboxClosed)):  # whichever of end and closing comes first
        process.write(b"x" * (8 << 20))


def test_input_of_a_command_without_one(sandbox):
    """Writing to a command that was started without input is an error that says so."""
    with sandbox.start("sleep", "100") as process, pytest.raises(aegis.InputClosed, match="stdin=True"):
        process.write("x")


def test_two_threads_share_a_process(sandbox):
    """Each stream can have a thread of its own."""
    with sandbox.start("sh", "-c", "for i in $(seq 2000); do echo out; echo err >&2; done") as process:
        got: dict[str, list[str]] = {}
        threads = [
            threading.Thread(target=lambda name, stream: got.update({name: list(stream)}), args=(name, stream))
            for name, stream in (("out", process.stdout), ("err", process.stderr))
        ]
        for thread in threads:
            thread.start()
        assert process.wait() == 0
        for thread in threads:
            thread.join()
        assert got == {"out": ["out\n"] * 2000, "err": ["err\n"] * 2000}


def test_both_streams_in_one_loop(sandbox):
    """output() gives the pieces of both streams with their names."""
    got = {"stdout": b"", "stderr": b""}
    with sandbox.start("sh", "-c", "echo a; echo b >&2; echo c") as process:
        for name, piece in process.output():
            got[name] += piece
    assert got == {"stdout": b"a\nc\n", "stderr": b"b\n"}


def test_many_inputs_at_once(boot):
    """However many commands are fed at once, none of it is taken for a guest that breaks the protocol."""
    vm = boot()
    processes = [vm.start("cat", stdin=True) for _ in range(100)]
    vm.pause()  # so that all of them wait, and are ready in the same moment
    writers = [threading.Thread(target=process.write, args=(b"x" * (64 << 10),)) for process in processes]
    for writer in writers:
        writer.start()
    time.sleep(0.3)
    vm.resume()
    for writer in writers:
        writer.join()
    assert vm.run("echo", "on").stdout == "on\n"
