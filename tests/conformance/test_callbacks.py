"""Output that is heard while a command runs."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import pytest

import aegis_sdk as aegis
from aegis_sdk import completion
from tests.conftest import slowness, until


def test_pieces_come_as_they_are_written(by_face):
    """Each piece is heard when it is written, by who listens to its stream, and is in the result, too."""
    heard: list[tuple[str, str, float]] = []
    done = by_face.run(
        *("sh", "-c", "echo one; sleep 0.5; echo err >&2; sleep 0.5; echo two; exit 3"),
        on_stdout=lambda text: heard.append(("stdout", text, time.monotonic())),
        on_stderr=lambda text: heard.append(("stderr", text, time.monotonic())),
    )
    assert [(stream, text) for stream, text, _ in heard] == [
        ("stdout", "one\n"),
        ("stderr", "err\n"),
        ("stdout", "two\n"),
    ]
    assert heard[2][2] - heard[0][2] > 0.7
    assert (done.stdout, done.stderr, done.exit_code) == ("one\ntwo\n", "err\n", 3)


def test_one_stream(by_face):
    """Who listens to one stream hears that one; the other is in the result all the same."""
    heard: list[str] = []
    done = by_face.shell("echo out; echo err >&2", on_stderr=heard.append)
    assert ("".join(heard), done.stdout, done.stderr) == ("err\n", "out\n", "err\n")


def test_text_is_whole(by_face):
    """A character that is cut comes whole, what is none as U+FFFD; together the pieces are the result's text."""
    script = "printf 'a\\303'; sleep 0.3; printf '\\251b\\377\\360\\237'"
    heard: list[str] = []
    done = by_face.shell(script, on_stdout=heard.append)
    assert "".join(heard) == done.stdout == "aéb\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}"
    assert heard[0] == "a"
    assert done.stdout_bytes == b"a\xc3\xa9b\xff\xf0\x9f"


def test_large_output(by_face):
    """Megabytes of both streams at once are heard whole, and input is fed meanwhile."""
    heard: dict[str, list[str]] = {"out": [], "err": []}
    done = by_face.run(
        *("sh", "-c", "head -c 5000000 /dev/zero | tr '\\0' e >&2 & cat; wait"),
        input=b"x" * 5_000_000,
        on_stdout=heard["out"].append,
        on_stderr=heard["err"].append,
    )
    assert "".join(heard["err"]) == done.stderr == "e" * 5_000_000
    assert "".join(heard["out"]) == done.stdout == "x" * 5_000_000


def test_what_a_listener_raises(by_face, sandbox):
    """What a listener raises is raised, and the command is ended."""

    class Enough(Exception):
        pass

    def hear(_: str) -> None:
        raise Enough

    with pytest.raises(Enough):
        by_face.shell("echo up; exec sleep 3131", on_stdout=hear)
    assert until(lambda: not sandbox.shell("ps | grep '[s]leep 3131'").ok, 5)


def test_stop_iteration_is_no_end(by_face):
    """A listener that raises what ends an iteration does not end the run quietly."""

    def hear(_: str) -> None:
        next(iter(()))

    with pytest.raises((StopIteration, RuntimeError)):
        by_face.run("echo", "x", on_stdout=hear)


def test_who_cannot_hear(by_face):
    """What is no function is refused, and nothing runs."""
    with pytest.raises(aegis.InvalidValue, match="function"):
        by_face.run("touch", "/tmp/heard", on_stdout=[])
    assert not by_face.run("test", "-e", "/tmp/heard").ok


def test_time_limit(by_face):
    """A time limit holds while there is always more to hear, and what a command says at its end is heard."""
    heard: list[str] = []
    script = "trap 'echo bye; exit 9' TERM; while :; do echo more; done"
    done = by_face.shell(script, timeout=0.5 * slowness(), on_stdout=heard.append)
    assert done.timed_out
    assert done.exit_code == 9
    assert "".join(heard) == done.stdout
    assert done.stdout.endswith("more\nbye\n")
    assert done.duration < 5 * slowness()


def test_a_slow_listener(by_face, monkeypatch):
    """A listener that takes its time is not taken for a guest that does not answer."""
    longest = 4.0 * slowness()
    monkeypatch.setattr(completion, "_LONGEST_END", longest)
    began: list[float] = []

    def hear(_: str) -> None:
        began.append(time.monotonic())
        if len(began) == 1:
            time.sleep(1.25 * longest)

    done = by_face.shell("echo up; sleep 1; echo on; exec sleep 100", timeout=1 * slowness(), on_stdout=hear)
    assert done.timed_out
    assert done.stdout == "up\non\n"
    assert len(began) == 2


def test_check(by_face):
    """With check, a failure is an exception after all has been heard."""
    heard: list[str] = []
    with pytest.raises(aegis.CommandFailed):
        by_face.shell("echo a; exit 1", on_stdout=heard.append, check=True)
    assert heard == ["a\n"]


def test_coroutines(driver):
    """The asynchronous face calls listeners in the event loop's thread, and awaits what they return."""
    heard: list[tuple[str, int]] = []

    async def hear(text: str) -> None:
        await asyncio.sleep(0.01)
        heard.append((text, threading.get_ident()))

    async def story() -> aegis.Completed:
        async with aegis.AsyncSandbox(driver=driver) as vm:
            return await vm.run("sh", "-c", "echo a; sleep 0.3; echo b", on_stdout=hear)

    assert asyncio.run(story()).stdout == "a\nb\n"
    assert heard == [("a\n", threading.get_ident()), ("b\n", threading.get_ident())]


def test_cancelling_a_listener(driver):
    """A call that is cancelled while its listener waits ends the command."""

    async def story() -> None:
        async with aegis.AsyncSandbox(driver=driver) as vm:
            task = asyncio.create_task(vm.shell("echo up; exec sleep 3232", on_stdout=lambda _: asyncio.sleep(100)))
            await asyncio.sleep(1)
            assert (await vm.shell("ps | grep '[s]leep 3232'")).ok
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for _ in range(50):
                if not (await vm.shell("ps | grep '[s]leep 3232'")).ok:
                    return
            raise AssertionError("it runs on")

    asyncio.run(story())


def _resident() -> int:
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_output_that_nobody_reads_takes_no_memory(boot):
    """Commands that write without end, and that nobody reads, neither grow this process nor keep others waiting."""
    vm = boot()
    vm.run("true")
    before = _resident()
    stuck = [vm.start("cat", "/dev/zero", tty=number % 4 == 0) for number in range(16)]
    time.sleep(1)
    assert all(process.exit_code is None for process in stuck)
    assert vm.run("echo", "on", timeout=10).stdout == "on\n"
    assert _resident() - before < 64 << 20
    for process in stuck:
        process.close()
