"""The engine behind the daemon's sockets: found, understood, never waited for in vain, and gone with its process."""

from __future__ import annotations

import os
import signal
import socket as net
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

import aegis_sdk as aegis
from aegis_sdk import sockets, wire
from aegis_sdk.config import Config
from aegis_sdk.engine import exchange
from aegis_sdk.engine.local import LocalEngine
from aegis_sdk.engine.remote import RemoteEngine
from aegis_sdk.model import TaskSpec
from tests.conftest import until
from tests.served import Served

pytestmark = [pytest.mark.of_qemu, pytest.mark.timeout(60)]


@contextmanager
def stopped(served: Served) -> Iterator[None]:
    """The daemon stands still while the block lasts."""
    pid = served.pid or 0
    assert pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _listens(served: Served) -> bool:
    try:
        sockets.connect(served.socket, timeout=1).close()
    except OSError:
        return False
    return True


def test_which_engine(served, monkeypatch):
    """AEGIS_HOST names the engine of all; connect() finds that or the home's daemon; the command line has either."""
    with pytest.raises(aegis.DaemonUnavailable, match="no daemon listens") as caught:
        aegis.connect()
    assert "aegis up" in caught.value.hint
    assert isinstance(aegis.engine_of_home(), LocalEngine)
    monkeypatch.setenv("AEGIS_HOST", f"unix://{served.socket}")
    assert isinstance(aegis.connect(), RemoteEngine)
    with aegis.Sandbox() as vm:
        assert served.engine.info(vm.id)
    monkeypatch.setenv("AEGIS_HOST", "/nowhere/aegisd.sock")
    for ask in (aegis.connect, aegis.engine_of_home, aegis.Sandbox, aegis.Image.list):
        with pytest.raises(aegis.DaemonUnavailable, match="/nowhere"):
            ask()
    assert isinstance(aegis.connect(served.socket), RemoteEngine)
    monkeypatch.delenv("AEGIS_HOST")
    monkeypatch.setenv("AEGIS_HOME", str(served.home))
    assert isinstance(aegis.engine_of_home(), RemoteEngine)


def test_no_daemon_costs_nothing():
    """Where no daemon is up, nothing that speaks to one is imported."""
    names = ("cattrs", "http.client", "aegis_sdk.engine.remote")
    script = f"import sys, aegis_sdk; aegis_sdk.engine_of_home(); sys.exit(any(n in sys.modules for n in {names}))"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


STATUS = aegis.DaemonStatus(
    version="0.0.1-other",
    pid=1,
    home="/h",
    started=0.0,
    sandboxes=0,
    running_tasks=0,
    queued_tasks=0,
    router="",
    router_fault="",
)


def _http(body: bytes, *, status: str = "200 OK", length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body) if length is None else length}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (_http(wire.dumps(STATUS)), "is Aegis 0.0.1-other, and this is Aegis"),
        (b"", "has ended, or hung up"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "has ended, or hung up"),
        (_http(b"<html>"), "does not understand"),
        (_http(b"[]"), "must be an object"),
        (_http(b'{"version": 5}'), "does not understand"),
        (_http(b'{"version"', length=500), "has ended, or hung up"),
        (_http(b"<html>", status="502 Bad Gateway"), "does not understand"),
        (_http(b'{"error": "no"}', status="500 No"), "does not understand"),
        (_http(b"{}", status="500 No"), "does not understand"),
    ],
)
def test_what_is_no_daemon_of_ours(tmp_path, answer, said):
    """Whatever answers at the socket, an error says in words what is wrong with it; so does another version."""
    with net.socket(net.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "aegisd.sock"))
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1 << 16)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(aegis.DaemonUnavailable, match=said):
            aegis.connect(tmp_path / "aegisd.sock")
        thread.join()


def test_a_daemon_that_stands_still(served, monkeypatch):
    """No call waits for it forever: neither one that is answered at once, nor one that may take long."""
    engine = served.engine
    assert engine.sandboxes() == ()
    monkeypatch.setattr(exchange, "_SILENCE", 0.2)
    monkeypatch.setattr(exchange, "_ALIVE", 1.0)
    with stopped(served):
        with pytest.raises(aegis.DaemonUnavailable, match="has not answered for 1 s"):
            engine._daemon.ask("GET", "sandboxes", shape=list, limit=1)
        with pytest.raises(aegis.DaemonUnavailable, match="has not answered for 1 s"):
            engine.prune_images(older_than=None, unused=False)
    assert engine.sandboxes() == ()


def test_a_forked_child_holds_no_lease(served, monitors):
    """A sandbox ends with the program that made it, also if a forked child of that lives on."""
    script = (
        "import os, time, aegis_sdk; vm = aegis_sdk.Sandbox()\n"
        "if not os.fork(): time.sleep(30); os._exit(0)\n"
        "print(vm.id, flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**served.environment, "AEGIS_HOST": str(served.socket)}
    program = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert program.stdout
        assert program.stdout.readline().strip()
        program.stdout.close()
        program.wait(10)
        assert until(lambda: not monitors(), 5)
    finally:
        os.killpg(program.pid, signal.SIGKILL)  # the child is of its session


@pytest.mark.parametrize("seconds", [0.4, 0.8, 1.2, 1.8, 2.5])
def test_a_client_killed_at_any_moment(served, seconds, monitors):
    """Whatever a client was about when it was killed, nothing of it is left."""
    script = "import aegis_sdk; aegis_sdk.Sandbox().run('sleep', '100')"
    environment = {**served.environment, "AEGIS_HOST": str(served.socket)}
    program = subprocess.Popen([sys.executable, "-c", script], env=environment)
    time.sleep(seconds)
    program.kill()
    program.wait()
    assert until(lambda: not monitors() and not served.engine.sandboxes(), 10)


def test_closing_the_engine(served, monitors):
    """What is not kept ends with its engine; a sandbox of it that is closed later has nothing to complain of."""
    engine = served.engine
    vm = aegis.Sandbox(engine=engine)
    engine.close()
    assert until(lambda: not monitors(), 5)
    with pytest.raises(aegis.SandboxClosed):
        vm.run("true")
    vm.close()
    with aegis.Sandbox(engine=engine) as another:
        assert another.run("true").ok


def test_progress_comes_through(served, tmp_path):
    """Who has an image made by the daemon hears how far it is; what the listener raises ends the work."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(os.urandom(1 << 20))
    heard: list[aegis.Progress] = []
    made = aegis.Image.import_from(f"dir:{tmp_path}/tree", name="heard:1", progress=heard.append, engine=served.engine)
    assert {progress.step for progress in heard} >= {"unpack"}
    made.remove()

    def refuse(_: aegis.Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        aegis.Image.import_from(f"dir:{tmp_path}/tree", name="heard:2", progress=refuse, engine=served.engine)


def test_what_a_machine_is_asked(served):
    """What is found, mended and installed there comes as it would in process; so do images, apps and tasks."""
    engine = served.engine
    assert {check.name for check in engine.check()} >= {"driver", "home"}
    assert aegis.mend(engine=engine) == LocalEngine(Config.from_environment()).mend()
    assert engine.plugins() == LocalEngine(Config.from_environment()).plugins()
    assert (engine.apps.list(), engine.secrets.list(app=None)) == ((), ())
    assert isinstance(engine.images(), tuple)
    assert isinstance(engine.tasks.list(), tuple)


def test_many_threads_use_one_engine(served):
    """One engine serves any number of threads, and holds nothing between their calls."""
    engine = served.engine
    with aegis.Sandbox(engine=engine) as vm, ExitStack() as joined:
        said: list[str] = []
        for number in range(16):
            thread = threading.Thread(target=lambda number=number: said.append(vm.run("echo", str(number)).stdout))
            thread.start()
            joined.callback(thread.join)
    assert sorted(said, key=int) == [f"{number}\n" for number in range(16)]


def test_a_log_that_is_followed_goes_on_after_a_restart(served):
    """Who follows a task's log while the daemon is killed and started again misses nothing, and hears nothing twice."""
    script = "seq 3000; echo end; sleep 100"
    task = served.engine.tasks.submit(TaskSpec(command=("sh", "-c", script)))
    heard: list[aegis.LogEntry] = []
    thread = threading.Thread(target=lambda: heard.extend(served.engine.tasks.logs(task.id, follow=True)))
    thread.start()
    slow = iter(served.engine.tasks.logs(task.id, follow=True))
    first = next(slow)
    assert until(lambda: any(entry.text == "end\n" for entry in served.engine.tasks.logs(task.id, tail=2)), 40)
    served.kill()
    assert until(lambda: not _listens(served), 5)
    served.start()
    rest = list(slow)
    thread.join(30)
    assert not thread.is_alive()
    whole = list(served.engine.tasks.logs(task.id))
    for followed in ([first, *rest], heard):
        said = [entry for entry in followed if entry.source == "stdout"]
        assert said == [entry for entry in whole if entry.source == "stdout"]
        assert len(said) == 3001
        assert [entry.sequence for entry in followed] == list(range(1, len(followed) + 1))
    assert served.engine.tasks.get(task.id).state is aegis.TaskState.FAILED
