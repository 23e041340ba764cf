"""Commands that have a terminal of the guest's."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress

import pytest

import aegis_sdk as aegis
from tests.conftest import until

QUIET = "stty -echo -opost; "


def _said(process: aegis.Process, word: bytes) -> bytes:
    """What comes up to *word*."""
    got = b""
    while not got.endswith(word):
        byte = process.stdout.read_bytes(1)
        assert byte, got
        got += byte
    return got


def test_a_terminal(sandbox):
    """It is a terminal, the controlling one, of the usual size, and says what it is."""
    script = "tty; stty size; echo $TERM; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo three > /dev/tty; exit 3"
    with sandbox.start("sh", "-c", script, tty=True) as process:
        name, *rest = process.stdout.read().split("\r\n")
        assert name.startswith("/dev/pts/")
        assert rest == ["24 80", "xterm-256color", "three", ""]
        assert process.wait() == 3


def test_it_is_what_was_asked_for(sandbox):
    """Its size is the one that was asked for, its TERM the environment's, and it belongs to the command's user."""
    script = "stty size; echo $TERM; stat -c '%U %G %a' $(tty)"
    with sandbox.start("sh", "-c", script, tty=(50, 132), env={"TERM": "vt100"}, user="nobody") as process:
        assert process.stdout.read() == "50 132\r\nvt100\r\nnobody tty 620\r\n"


@pytest.mark.parametrize("tty", [0, "24x80", (24,), (0, 80), (24, 65536), (24.0, 80), (True, 80), ("a", "b")])
def test_sizes_that_cannot_be(sandbox, tty):
    """What is no size is refused before anything runs."""
    with pytest.raises(aegis.InvalidValue):
        sandbox.start("true", tty=tty)


def test_all_output_is_one_stream(sandbox):
    """What is written to standard error comes with the rest, in its order; the other stream is empty."""
    with sandbox.start("sh", "-c", "echo a; echo b >&2; echo c", tty=True) as process:
        assert process.stdout.read() == "a\r\nb\r\nc\r\n"
        assert process.stderr.read() == ""


def test_what_cannot_be_started(sandbox):
    """A command that is not there says so, as without a terminal."""
    with sandbox.start("nosuch", tty=True) as process:
        assert process.wait() == 127
        assert "nosuch: not found" in process.stderr.read()


def test_typing(sandbox):
    """What is written is typed: echoed, a line at a time, and the erase character takes a whole letter."""
    with sandbox.start("cat", tty=True) as process:
        process.write("aé\x7fb\n")
        _said(process, b"ab\r\n")
        process.close_stdin()
        assert process.wait(timeout=10) == 0
    with pytest.raises(aegis.InputClosed):
        process.write("x")


@pytest.mark.parametrize("typed", ["", "one\n", "one\ntwo"])
def test_the_end_of_what_is_typed(sandbox, typed):
    """close_stdin is Ctrl-D, also where a line was begun."""
    with sandbox.start("sh", "-c", f"{QUIET}echo up; cat; exit 4", tty=True) as process:
        _said(process, b"up\n")
        process.write(typed)
        process.close_stdin()
        assert process.stdout.read() == typed
        assert process.wait() == 4


def test_control_characters(sandbox):
    """Ctrl-C ends what is in the foreground, and the shell goes on; Ctrl-Z stops it, and fg goes on with it."""
    with sandbox.start("sh", tty=True, env={"PS1": "> "}) as process:
        _said(process, b"> ")
        process.write("sh -c 'echo be''gun; sleep 100'\n")
        _said(process, b"begun")
        process.write(b"\x03")
        _said(process, b"> ")
        process.write("echo $?; sh -c 'echo be''gun; sleep 1; echo slept'\n")
        _said(process, b"130\r\n")
        _said(process, b"begun")
        process.write(b"\x1a")
        _said(process, b"Stopped")
        _said(process, b"> ")
        process.write("fg\n")
        _said(process, b"slept\r\n")
        process.write("exit 7\n")
        assert process.wait(timeout=10) == 7


def test_resize(sandbox):
    """A new size is there at once, and the command hears of it."""
    with sandbox.start("sh", "-c", "trap 'stty size' WINCH; echo up; while :; do sleep 0.1; done", tty=True) as process:
        _said(process, b"up\r\n")
        process.resize(50, 132)
        assert _said(process, b"\n") == b"50 132\r\n"
        for wrong in ((0, 80), (24, 65536), ("24", 80)):
            with pytest.raises(aegis.InvalidValue):
                process.resize(*wrong)
    process.resize(24, 80)


def test_resize_without_a_terminal(sandbox):
    """Without a terminal there is nothing to be resized, which says so."""
    with sandbox.start("sleep", "100") as process, pytest.raises(aegis.InvalidValue, match="tty=True"):
        process.resize(24, 80)


def test_large_output(sandbox):
    """All of a large output comes, and not a byte more."""
    with sandbox.start("sh", "-c", f"{QUIET}head -c 2000000 /dev/zero | tr '\\0' y; echo end", tty=True) as process:
        assert process.stdout.read_bytes() == b"y" * 2_000_000 + b"end\n"


def test_output_before_the_end_is_kept(sandbox):
    """What a command writes just before it ends is there, also when it left somebody at its terminal."""
    script = f"{QUIET}trap '' HUP; sleep 15 & yes | head -c 9000; echo end"
    for _ in range(5):
        began = time.monotonic()
        with sandbox.start("sh", "-c", script, tty=True) as process:
            assert process.stdout.read_bytes().endswith(b"y\nend\n")
            assert time.monotonic() - began < 10


def test_closing_ends_all_of_it(sandbox):
    """Leaving the block hangs up: a shell that heeds no SIGTERM goes at once, and so do its jobs."""
    with sandbox.start("sh", tty=True, env={"PS1": "> "}) as process:
        _said(process, b"> ")
        process.write("trap '' TERM; sleep 6543 & sleep 6543\n")
        assert until(lambda: _count(sandbox, "6543") == 2, 5)
    assert until(lambda: _count(sandbox, "6543") == 0, 4)


def _count(sandbox: aegis.Sandbox, seconds: str) -> int:
    return int(sandbox.shell(f"ps | grep -c '[s]leep {seconds}'").stdout)


def test_output_nobody_reads(sandbox):
    """A terminal whose output nobody reads keeps nobody else waiting, and its command can be interrupted."""
    with sandbox.start("yes", tty=True) as stuck:
        time.sleep(0.5)
        assert sandbox.run("echo", "on", timeout=5).stdout == "on\n"
        stuck.write(b"\x03")
        for _ in stuck.stdout.chunks():
            pass
        assert stuck.wait() == 130


@pytest.mark.parametrize("typed", [b"x\n" * (1 << 20), b"x" * (2 << 20)], ids=["lines", "one line"])
def test_input_nobody_reads(sandbox, typed):
    """A command that reads nothing of what is typed can be signalled and closed, and others go on."""
    with sandbox.start("sleep", "7654", tty=True) as process:
        writer = threading.Thread(target=_type, args=(process, typed))
        writer.start()
        time.sleep(0.5)
        assert sandbox.run("echo", "on", timeout=5).stdout == "on\n"
        process.resize(10, 10)
    writer.join(10)
    assert not writer.is_alive()
    assert until(lambda: _count(sandbox, "7654") == 0, 5)


def _type(process: aegis.Process, data: bytes) -> None:
    with suppress(aegis.InputClosed, aegis.SandboxClosed):
        process.write(data)


@pytest.mark.timeout(60)
def test_many_at_once(boot):
    """Sixty-four terminals at once, each talked to."""
    vm = boot()
    processes = [vm.start("sh", "-c", f"{QUIET}read x; echo $x; tty", tty=True) for _ in range(64)]
    for number, process in enumerate(processes):
        process.write(f"{number}\n")
    names = set()
    for number, process in enumerate(processes):
        *_, answer, name = process.stdout.read().split()
        assert answer == str(number)
        names.add(name)
    assert len(names) == 64


def test_terminals_do_not_go_by_what_a_guest_has_changed(boot):
    """Root in the guest can put what it likes at /dev/ptmx, and over it: the next terminal is one, or an error."""
    vm = boot()
    vm.shell("rm /dev/ptmx; mkfifo /dev/ptmx", check=True)
    with vm.start("tty", tty=True) as process:
        assert process.stdout.read() == "/dev/pts/0\r\n"
    vm.shell("mkfifo /tmp/fifo; mount --bind /tmp/fifo /dev/pts/ptmx", check=True)
    with vm.start("tty", tty=True) as process:
        assert process.wait(timeout=10) == 125
        assert "terminal: " in process.stderr.read()
    assert vm.run("echo", "on").stdout == "on\n"


def test_closed_streams_can_be_opened_again(sandbox):
    """A command that closes all its streams, and opens its terminal again, is heard."""
    script = "exec 3>/dev/null <&3 >&3 2>&3; sleep 0.3; echo again > /dev/tty; exit 2"
    with sandbox.start("sh", "-c", script, tty=True) as process:
        assert process.stdout.read() == "again\r\n"
        assert process.wait() == 2


def test_asynchronously(driver):
    """The same with await."""

    async def story() -> None:
        script = f"{QUIET}stty size; read x; stty size; echo $x"
        async with aegis.AsyncSandbox(driver=driver) as vm, await vm.start("sh", "-c", script, tty=True) as process:
            assert await process.stdout.readline() == "24 80\n"
            await process.resize(10, 20)
            await process.write("word\n")
            assert await process.stdout.read() == "10 20\nword\n"

    asyncio.run(story())
