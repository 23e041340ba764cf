"""Apps that are served: asleep while nobody asks, awake for whoever does, switched without a refused request."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.connect import engine_here
from aegis_sdk.engine.local import LocalEngine
from aegis_sdk.model import AppSpec, InstanceInfo, InstanceState, Progress
from tests.conftest import until

RUNNING, PAUSED, STOPPED = InstanceState.RUNNING, InstanceState.PAUSED, InstanceState.STOPPED
#: A server that says when it starts, and does in its guest what a request asks for.
SERVER = r"""
echo begun
echo $$ > /tmp/server
mkdir -p /tmp/www/cgi-bin && cd /tmp/www
echo "$WORD" > index.html
for name in lease work crash; do
    eval command=\$$name
    printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\n%s\n' "$command" > cgi-bin/$name
    chmod +x cgi-bin/$name
done
exec busybox httpd -f -p 127.0.0.1:8000
"""
COMMANDS = {
    "lease": "echo 2 > /run/aegis/keepalive",
    "work": "timeout 2 sh -c 'while :; do :; done' > /dev/null 2>&1 &",
    "crash": "kill -9 $(cat /tmp/server)",
}


def unheard(_: Progress) -> None:
    """Nobody wants to know of an image that is there."""


@attrs.frozen
class Served:
    """An app of a test's own, and what can be asked of it."""

    engine: Engine
    name: str

    def publish(self, label: str, command: tuple[str, ...] = ("sh", "-c", SERVER), **options: Any) -> None:
        options = {"expose": (8000,), "env": {"WORD": label, **COMMANDS}, **options}
        self.engine.apps.update(self.name, AppSpec(command=command, **options))
        self.engine.apps.publish(self.name, label=label, report=unheard)

    def serve(self, release: str | None = None, *, beside: bool = False) -> InstanceInfo:
        return self.engine.apps.serve(self.name, release=release, beside=beside, report=unheard)

    @property
    def info(self) -> InstanceInfo:
        return self.engine.apps.instances(self.name)[0]

    def get(self, path: str = "") -> str:
        with urllib.request.urlopen(self.info.url + path, timeout=30) as answer:
            return str(answer.read().decode().strip())

    def is_in(self, state: InstanceState) -> bool:
        return until(lambda: self.info.state is state, 10)

    def stays(self, state: InstanceState, seconds: float) -> bool:
        return not until(lambda: self.info.state is not state, seconds)

    @property
    def log(self) -> str:
        return b"".join(entry.data for entry in self.engine.apps.logs(self.name)).decode()


@pytest.fixture
def served(engine: str) -> Iterator[Served]:
    """An app called web, of the engine that the test is for."""
    used: Engine = engine_here() if engine == "remote" else LocalEngine(Config.from_environment())
    used.apps.create("web", AppSpec())
    try:
        yield Served(used, "web")
    finally:
        used.apps.delete("web", workspace=True)
        if isinstance(used, LocalEngine):
            used.close()


def at_once(count: int, call: Callable[[], str]) -> list[str]:
    """What that many threads have got."""
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(call())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


@pytest.mark.timeout(60)
@pytest.mark.both_engines
def test_it_sleeps_and_answers(served):
    """Idle it is paused, and then stopped; it answers from either, and a hundred who ask at once cost one boot."""
    served.publish("v1", idle=0.5, stop_after=1.0)
    first = served.serve()
    assert (first.state, first.label, first.url.rpartition("/app/")[2]) == (RUNNING, "v1", "web/")
    assert served.get() == "v1"
    assert served.is_in(PAUSED)
    assert served.get() == "v1"
    assert served.info.state is RUNNING
    assert served.log.count("begun") == 1
    assert served.is_in(STOPPED)
    assert served.info.sandbox is None
    assert at_once(100, served.get) == ["v1"] * 100
    assert served.log.count("begun") == 2
    assert (served.info.id, served.info.url) == (first.id, first.url)
    said = served.log
    for words in ("v1 is ready after", "paused after 0.5 s without a connection", "goes on after", "stopped after 1 s"):
        assert words in said
    served.engine.apps.stop("web")
    assert served.engine.apps.instances("web") == ()
    with pytest.raises(aegis.NotServed, match="web"):
        served.engine.apps.wake("web")


@pytest.mark.timeout(60)
@pytest.mark.in_process
def test_a_switch_refuses_nobody(served):
    """While another release takes over, and while secrets come in by a new boot, every request is answered."""
    served.publish("v1", env={**COMMANDS})
    served.engine.secrets.set("WORD", b"one", app="web")
    first = served.serve()
    answers: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                answers.append(served.get())
            except (OSError, IndexError) as error:
                answers.append(repr(error))

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    try:
        assert served.serve().sandbox == first.sandbox  # nothing has changed
        served.engine.secrets.set("WORD", b"two", app="web")
        again = served.serve()
        assert (again.id, again.sandbox != first.sandbox) == (first.id, True)
        assert until(lambda: answers[-1] == "two", 5)
        served.publish("v2", env={**COMMANDS, "WORD": "three"})
        newer = served.serve()
        assert newer.id != first.id
        assert until(lambda: answers[-1] == "three", 5)
    finally:
        over.set()
        for thread in asking:
            thread.join()
    assert set(answers) == {"one", "two", "three"}
    assert [one.label for one in served.engine.apps.instances("web")] == ["v2"]
    assert until(lambda: len([vm for vm in served.engine.sandboxes() if vm.name.startswith("instance-")]) == 1, 10)


@pytest.mark.timeout(60)
@pytest.mark.in_process
def test_two_releases_beside_each_other(served):
    """One is served beside another, the first by default; each is stopped alone, and one that fails changes nothing."""
    served.publish("v1")
    served.publish("v2")
    served.publish("bad", ("sh", "-c", "echo oops; exit 3"))
    served.serve("v1")
    served.serve("v2", beside=True)
    assert [one.label for one in served.engine.apps.instances("web")] == ["v1", "v2"]
    assert served.get() == "v1"
    with pytest.raises(aegis.ServerFailed, match=r"exited with code 3 before it was ready[^$]*oops"):
        served.serve("bad")
    assert [one.label for one in served.engine.apps.instances("web")] == ["v1", "v2"]
    served.engine.apps.stop("web", release="v1")
    assert served.get() == served.info.label == "v2"
    assert "oops" in b"".join(entry.data for entry in served.engine.apps.logs("web", release="bad")).decode()


@pytest.mark.timeout(60)
@pytest.mark.in_process
def test_what_keeps_it_awake(served):
    """Work in the guest, a lease that it asks for, and an open connection; when they are over it sleeps."""
    echo = "busybox nc -ll -p 9000 -e cat &" + SERVER
    served.publish("v1", ("sh", "-c", echo), expose=(8000, "9000/tcp"), idle=0.4)
    info = served.serve()
    assert served.is_in(PAUSED)
    for path in ("cgi-bin/work", "cgi-bin/lease"):
        served.get(path)
        assert served.stays(RUNNING, 1.5), path
        assert served.is_in(PAUSED), path
    host, _, port = info.addresses["9000/tcp"].partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(b"hello")
        assert line.recv(5) == b"hello"
        assert served.stays(RUNNING, 1.5)
        line.sendall(b"still here")
        assert line.recv(10) == b"still here"
    assert served.is_in(PAUSED)


@pytest.mark.timeout(90)
@pytest.mark.in_process
def test_requests_race_with_pauses(served):
    """Whenever a request comes, it is answered: before a pause, in it, and after."""
    served.publish("v1", idle=0.05, stop_after=None)
    served.serve()
    times = random.Random(7)
    answers: set[str] = set()

    def ask() -> None:
        for _ in range(60):
            time.sleep(times.random() * 0.15)
            answers.add(served.get())

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert answers == {"v1"}
    assert served.log.count("paused after") > 10
    assert served.log.count("begun") == 1


@pytest.mark.timeout(60)
@pytest.mark.in_process
def test_servers_and_guests_that_die(served):
    """A server that is killed, or a guest, awake or asleep, is noticed and said; the next request boots anew."""
    served.publish("v1", idle=0.5)
    served.serve()
    with suppress(urllib.error.HTTPError):  # the answer goes with it, or was a moment faster
        served.get("cgi-bin/crash")
    assert served.is_in(STOPPED)
    assert "the server was ended by SIGKILL" in served.info.reason
    assert served.get() == "v1"
    assert served.is_in(PAUSED)
    guest = served.engine.info(served.info.sandbox)
    assert guest
    assert guest.pid
    os.kill(guest.pid, signal.SIGKILL)
    assert served.is_in(STOPPED)
    assert "its virtual machine monitor was killed" in served.info.reason
    assert served.get() == "v1"


@pytest.mark.in_process
def test_a_secret_that_cannot_be_read(served, home):
    """Who asks is told which one, and what to do, and so is its log; nothing boots."""
    key = Path(home) / "master.key"
    served.engine.secrets.set("KEY", b"value", app="web")
    kept = key.read_bytes()
    key.unlink()
    try:
        served.publish("v1")
        with pytest.raises(aegis.SecretUnreadable, match="KEY of app web"):
            served.serve()
        assert served.engine.apps.instances("web") == ()
        assert "KEY of app web" in served.log
    finally:
        key.write_bytes(kept)
        key.chmod(0o600)


@pytest.mark.timeout(60)
@pytest.mark.in_process
def test_many_who_serve_and_one_who_stops(served):
    """Who serves what others begin to serve waits for the same boot; who stops it ends the wait of all at once."""
    served.publish("v1")
    said: list[object] = []

    def serve() -> None:
        try:
            said.append(served.serve().sandbox)
        except aegis.AegisError as error:
            said.append(str(error))

    def at_once(count: int, then: Callable[[], object]) -> list[object]:
        said.clear()
        serving = [threading.Thread(target=serve) for _ in range(count)]
        for thread in serving:
            thread.start()
        assert until(lambda: bool(served.engine.sandboxes()), 10)
        then()
        for thread in serving:
            thread.join()
        return said

    assert at_once(2, lambda: served.engine.apps.stop("web")) == ["the app web was stopped by its owner"] * 2
    assert served.engine.apps.instances("web") == served.engine.sandboxes() == ()
    assert at_once(8, lambda: None) == [served.info.sandbox] * 8
    assert len(served.engine.sandboxes()) == 1
    assert list(served.engine.apps.logs("web", release="v1"))
    served.publish("v2")
    with pytest.raises(aegis.NotServed, match="v2"):
        served.engine.apps.logs("web", release="v2", follow=True)
