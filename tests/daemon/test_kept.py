"""Sandboxes with names, and such as outlive their program: whoever asks finds them, and of two who race one wins."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.engine.local import LocalEngine
from tests.conftest import until
from tests.served import Served

pytestmark = [pytest.mark.of_qemu, pytest.mark.timeout(60)]


@pytest.fixture
def kept(served: Served) -> Iterator[aegis.Sandbox]:
    """A kept sandbox of the name ``kept``."""
    vm = aegis.Sandbox(name="kept", keep=True, engine=served.engine)
    yield vm
    vm.remove()


def _at_once(*calls: Callable[[], object]) -> list[object]:
    """What each call gives or raises, all of them begun together."""
    found: dict[int, object] = {}
    start = threading.Barrier(len(calls))

    def work(number: int) -> None:
        start.wait()
        try:
            found[number] = calls[number]()
        except aegis.AegisError as error:
            found[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(len(calls))]


def test_a_kept_sandbox_outlives_its_program(served, monitors):
    """What one program keeps, the next one finds by its name, as it was left, until it is removed."""
    make = "import aegis_sdk as a; a.Sandbox(name='dev', keep=True).files.write('/tmp/x', 'left')"
    environment = {**served.environment, "AEGIS_HOST": str(served.socket)}
    subprocess.run([sys.executable, "-c", make], env=environment, check=True, timeout=30)
    with aegis.Sandbox.get("dev", engine=served.engine) as vm:
        assert vm.files.read_text("/tmp/x") == "left"
        assert (vm.name, vm.info().keep, repr(vm)) == ("dev", True, "<Sandbox dev image='base' running>")
        by_id = aegis.Sandbox.get(vm.id, engine=served.engine)
    del by_id
    gc.collect()
    assert [found.id for found in aegis.Sandbox.list(engine=served.engine)] == [vm.id]
    assert aegis.Sandbox.get("dev", engine=served.engine).run("cat", "/tmp/x").stdout == "left"
    vm.remove()
    vm.remove()
    assert not monitors()
    with pytest.raises(aegis.SandboxNotFound, match="no sandbox dev"):
        aegis.Sandbox.get("dev", engine=served.engine)
    with pytest.raises(aegis.SandboxClosed):
        vm.run("true")


def test_stopped_and_booted_again(kept):
    """A stopped one keeps its name and what it was asked to be, and boots again with new files; twice is fine."""
    kept.files.write("/tmp/x", "gone")
    kept.stop()
    info = kept.info()
    assert (info.state, info.pid, info.memory_used) == (aegis.State.STOPPED, None, None)
    with pytest.raises(aegis.SandboxClosed, match="is stopped") as caught:
        kept.run("true")
    assert "aegis sandbox start" in caught.value.hint
    kept.boot()
    kept.boot()
    again = kept.info()
    assert (again.state, again.id, again.created) == (aegis.State.RUNNING, info.id, info.created)
    assert again.pid is not None
    assert not kept.files.exists("/tmp/x")


def test_a_command_of_one_that_is_left_ends(kept, served):
    """Leaving the block of one that was found ends the commands that were started by it, and nothing else."""
    with aegis.Sandbox.get("kept", engine=served.engine) as vm:
        process = vm.start("sleep", "1234")
        assert process.pid
        assert "sleep 1234" in kept.run("ps").stdout
    assert until(lambda: "sleep 1234" not in kept.run("ps").stdout, 5)


def test_connect_or_create(served, monitors):
    """Who asks for a name gets the one that is there, booted if it had ended, or a new one; of many at once, all do."""
    ask = lambda: aegis.Sandbox.connect_or_create("shared", memory=128, engine=served.engine)  # noqa: E731
    first, *others = _at_once(*[ask] * 4)
    assert isinstance(first, aegis.Sandbox), first
    try:
        assert {getattr(vm, "id", vm) for vm in others} == {first.id}
        assert len(monitors()) == 1
        first.stop()
        assert ask().run("true").ok
        assert first.info().memory == 128
    finally:
        first.remove()


def test_of_two_with_one_name_one_wins(served, monitors):
    """Two who make a sandbox of one name at once: one has it, the other is told, and there is one guest."""
    make = lambda: aegis.Sandbox(name="mine", engine=served.engine)  # noqa: E731
    made = _at_once(make, make, make)
    (vm,) = [one for one in made if isinstance(one, aegis.Sandbox)]
    with vm:
        assert [type(one) for one in made if one is not vm] == [aegis.NameTaken] * 2
        assert len(monitors()) == 1
        with pytest.raises(aegis.NameTaken):
            aegis.Sandbox(name=vm.id, engine=served.engine) if vm.id[0].isalpha() else make()
    make().close()


@pytest.mark.parametrize("end", ["stop", "remove"])
def test_a_start_races_with_an_end(served, end, monitors):
    """Whichever of start and stop, or start and remove, comes last, has its way; and nothing is left of the other."""
    vm = aegis.Sandbox(name="raced", keep=True, engine=served.engine)
    try:
        for _ in range(2):
            vm.kill()
            ending = vm.kill if end == "stop" else vm.remove
            started, ended = _at_once(vm.boot, ending)
            assert started is None or isinstance(started, (aegis.SandboxClosed, aegis.SandboxNotFound)), started
            assert ended is None, ended
            if end == "remove":
                break
            running = vm.info().state is aegis.State.RUNNING
            assert running == (started is None)
            assert until(lambda: len(monitors()) == int(running), 5)  # noqa: B023  # at once
    finally:
        vm.remove()
    assert until(lambda: not monitors(), 5)
    assert not served.engine.sandboxes()


def test_a_boot_that_nobody_wants_any_more(served, monitors):
    """Who removes a sandbox by its name while it boots ends its boot, and who made it is told."""
    vm = aegis.Sandbox(name="slow", keep=True, engine=served.engine)
    vm.kill()
    booting = threading.Thread(target=lambda: _at_once(vm.boot))
    booting.start()
    assert until(lambda: bool(monitors()), 5)
    vm.remove()
    booting.join(5)
    assert not booting.is_alive()
    assert until(lambda: not monitors(), 2)


def test_a_killed_daemon(served, monitors):
    """After a kill -9 of the daemon no guest is left; the kept ones are stopped, and boot again when they are asked."""
    kept = aegis.Sandbox(name="survivor", keep=True, engine=served.engine)
    lost = aegis.Sandbox(name="lost", engine=served.engine)
    caught: list[BaseException] = []

    def work() -> None:
        try:
            kept.run("sleep", "100")
        except aegis.AegisError as error:
            caught.append(error)

    waiting = threading.Thread(target=work)
    waiting.start()
    assert until(lambda: "sleep 100" in kept.run("ps").stdout, 5)
    served.kill()
    waiting.join(10)
    assert len(caught) == 1
    assert isinstance(caught[0], aegis.DaemonUnavailable)
    assert until(lambda: not monitors(), 3)
    with pytest.raises(aegis.DaemonUnavailable, match="no daemon listens"):
        kept.info()
    served.start()
    (info,) = served.engine.sandboxes()
    assert (info.name, info.state, info.pid) == ("survivor", aegis.State.STOPPED, None)
    lost.close()
    kept.boot()
    assert kept.run("echo", "back").stdout == "back\n"
    kept.remove()


def test_only_the_daemon_keeps():
    """In this process nothing can be kept, and the error says what can."""
    with pytest.raises(aegis.InvalidValue, match="only the daemon") as caught:
        aegis.Sandbox(keep=True)
    assert "aegis.connect()" in caught.value.hint


def test_names_in_this_process():
    """An engine in this process knows names, too, and frees one with its sandbox."""
    engine = LocalEngine(Config.from_environment())
    with aegis.Sandbox(name="here", engine=engine) as vm:
        assert aegis.Sandbox.get("here", engine=engine).run("echo", "x").stdout == "x\n"
        with pytest.raises(aegis.NameTaken, match="here"):
            aegis.Sandbox(name="here", engine=engine)
        vm.kill()
        vm.boot()
        assert vm.run("true").ok
        with pytest.raises(aegis.SandboxNotFound):
            aegis.Sandbox.get("there", engine=engine)
    assert engine.sandboxes() == ()


@pytest.mark.parametrize("name", ["", "Dev", "a b", "-a", "a" * 64, "../x", 5])
def test_names_that_are_none(name):
    """What cannot be a name is refused before anything boots."""
    with pytest.raises(aegis.InvalidValue, match="cannot be a name"):
        aegis.Sandbox(name=name)


def test_for_asyncio(kept, served):
    """AsyncSandbox finds, lists, boots and removes as Sandbox does."""

    async def story() -> None:
        async with await aegis.AsyncSandbox.get("kept", engine=served.engine) as vm:
            assert (await vm.run("echo", vm.name or "")).stdout == "kept\n"
            await vm.kill()
            await vm.boot()
        assert [one.name for one in await aegis.AsyncSandbox.list(engine=served.engine)] == ["kept"]
        same = await aegis.AsyncSandbox.connect_or_create("kept", engine=served.engine)
        assert same.id == kept.id
        async with aegis.AsyncSandbox(name="other", keep=True, engine=served.engine) as other:
            pass
        assert (await other.info()).state is aegis.State.RUNNING
        await other.remove()

    asyncio.run(story())
