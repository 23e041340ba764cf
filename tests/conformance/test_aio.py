"""The asynchronous face does what the synchronous one does."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import aegis_sdk as aegis
from aegis_sdk.artifacts import Artifacts
from tests.conftest import monitors, slowness, until

pytestmark = pytest.mark.both_engines


def test_a_command_answers(driver):
    """async with boots, await runs, and leaving ends the guest."""

    async def story() -> int | None:
        async with aegis.AsyncSandbox(driver=driver) as vm:
            assert (await vm.run("echo", "hello")).stdout == "hello\n"
            assert (await vm.shell("exit 3")).exit_code == 3
            with pytest.raises(aegis.CommandFailed):
                await vm.run("false", check=True)
            assert vm.id in repr(vm)
            return (await vm.info()).pid

    pid = asyncio.run(story())
    assert until(lambda: pid not in monitors(), 2)


def test_many_at_once(driver):
    """64 commands at once, more than any thread pool has threads, and they do not wait for each other."""

    async def story() -> None:
        async with aegis.AsyncSandbox(driver=driver) as vm:
            await vm.run("mkfifo", "/tmp/gate", check=True)
            waiting = [asyncio.create_task(vm.shell(f"read x < /tmp/gate; echo {n}")) for n in range(63)]
            await vm.shell("sleep 1; while ps | grep -q '[r]ead x'; do echo go > /tmp/gate; done")
            done = await asyncio.gather(*waiting)
            assert [each.stdout for each in done] == [f"{n}\n" for n in range(63)]

    asyncio.run(story())


def test_the_loop_runs_on(driver):
    """Nothing blocks the event loop while a guest boots and a command runs."""

    async def story() -> float:
        longest, last = 0.0, time.monotonic()

        async def tick() -> None:
            nonlocal longest, last
            while True:
                await asyncio.sleep(0.01)
                longest, last = max(longest, time.monotonic() - last), time.monotonic()

        ticking = asyncio.create_task(tick())
        async with aegis.AsyncSandbox(driver=driver) as vm:
            await vm.run("sleep", "1")
        ticking.cancel()
        return longest

    assert asyncio.run(story()) < 0.5 * slowness()


def test_streaming(driver):
    """Lines come as they are written, and a process is talked to."""

    async def story() -> None:
        async with aegis.AsyncSandbox(driver=driver) as vm:
            async with await vm.start("cat", stdin=True) as process:
                await process.write("one\n")
                async for line in process.stdout:
                    assert line == "one\n"
                    break
                await process.close_stdin()
                assert await process.wait() == 0
            async with await vm.start("sh", "-c", "echo a; echo b >&2") as process:
                assert sorted([pair async for pair in process.output()]) == [("stderr", b"b\n"), ("stdout", b"a\n")]
            async with await vm.start("sleep", "100") as process:
                await process.kill("SIGTERM")
                assert await process.wait() == 143
                assert process.signal == "SIGTERM"

    asyncio.run(story())


def test_cancelling_ends_the_command(driver):
    """A cancelled call ends its command in the guest."""

    async def story() -> None:
        async with aegis.AsyncSandbox(driver=driver) as vm:
            task = asyncio.create_task(vm.run("sleep", "4242"))
            await asyncio.sleep(0.5)
            assert (await vm.shell("ps | grep '[s]leep 4242'")).ok
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for _ in range(50):
                if not (await vm.shell("ps | grep '[s]leep 4242'")).ok:
                    return
            raise AssertionError("it runs on")

    asyncio.run(story())


@pytest.mark.every_driver
def test_cancelling_a_boot_leaves_nothing(driver):
    """A boot that is cancelled leaves no guest."""
    before = monitors()

    async def boot() -> None:
        async with asyncio.timeout(0.3), aegis.AsyncSandbox(driver=driver):
            raise AssertionError("a boot in 0.3 s under emulation")

    async def story() -> None:
        with pytest.raises(TimeoutError):
            await boot()
        await asyncio.sleep(3)

    asyncio.run(story())
    assert until(lambda: monitors() <= before, 3)


def test_outside_its_block():
    """A sandbox that was not entered has not booted, and says so."""
    with pytest.raises(aegis.SandboxClosed, match="async with"):
        asyncio.run(aegis.AsyncSandbox().run("true"))


def test_leaving_while_an_image_is_made(tmp_path, empty_home):
    """A task that is cancelled while its image is being made ends that, too."""
    (tmp_path / "tree").mkdir()
    with (tmp_path / "tree" / "large").open("wb") as large:
        large.truncate(8 << 30)  # all of which is read, and nothing stored
    begun = threading.Event()

    def progress(made: aegis.Progress) -> None:
        if made.step == "unpack":
            begun.set()

    async def main() -> None:
        sandbox = aegis.AsyncSandbox(f"dir:{tmp_path / 'tree'}", progress=progress)
        task = asyncio.create_task(sandbox.__aenter__())
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    (disk,) = (empty_home / "data" / "images" / "disks").iterdir()
    with Artifacts(disk).locked():  # by nobody who goes on
        assert not list(disk.iterdir())
