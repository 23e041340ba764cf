"""What a daemon serves is served again by the next one, and what a process serves ends with it."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from aegis_sdk.engine.remote import RemoteEngine
from aegis_sdk.model import AppSpec, InstanceState, Progress
from tests.conftest import until
from tests.served import Served

SERVER = "busybox nc -ll -p 9000 -e cat & cd /tmp; echo hello > index.html; exec busybox httpd -f -p 8000"
#: What serves an app in its own process, says where, and then does as it is told.
PROGRAM = f"""
import sys
from aegis_sdk.config import Config
from aegis_sdk.engine.local import LocalEngine
from aegis_sdk.model import AppSpec

engine = LocalEngine(Config.from_environment())
engine.apps.create(sys.argv[1], AppSpec(command=("sh", "-c", {SERVER!r}), expose=(8000,)))
engine.apps.publish(sys.argv[1], label=None, report=lambda _: None)
print(engine.apps.serve(sys.argv[1], release=None, beside=False, report=lambda _: None).url, flush=True)
sys.stdin.read()
"""


def unheard(_: Progress) -> None:
    """Nobody wants to know of an image that is there."""


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode().strip())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture
def daemon(another, monkeypatch) -> Iterator[Served]:
    """A daemon whose router has a port of its own, as the usual one would."""
    monkeypatch.setenv("AEGIS_ROUTER_PORT", str(free_port()))
    daemon: Served = another()
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.mark.timeout(60)
def test_a_daemon_that_is_killed(daemon, monitors):
    """The next one serves the same releases at the same addresses, asleep until asked; its guests went with it."""
    engine: RemoteEngine = daemon.engine
    engine.apps.create("web", AppSpec(command=("sh", "-c", SERVER), expose=("8000", "9000/tcp")))
    engine.apps.create("other", AppSpec(expose=(8000,)))
    engine.apps.publish("web", label="v1", report=unheard)
    before = engine.apps.serve("web", release=None, beside=False, report=unheard)
    assert get(before.url) == "hello"
    daemon.kill()
    assert until(lambda: not monitors(), 5)
    daemon.start()
    (after,) = engine.apps.instances()
    assert after.state is InstanceState.STOPPED
    assert (after.id, after.label, after.url, after.addresses) == (before.id, "v1", before.url, before.addresses)
    host, _, port = after.addresses["9000/tcp"].partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as line:
        line.sendall(b"hello")
        assert line.recv(5) == b"hello"
    assert get(before.url) == "hello"
    said = b"".join(entry.data for entry in engine.apps.logs("web")).decode()
    assert said.count("v1 is ready after") == 2


@pytest.mark.timeout(60)
@pytest.mark.parametrize("end", ["exit", "kill"])
def test_a_process_that_ends(end, home, monitors):
    """Its guests end with it, however it ends; what is left of its logs is swept by who serves next."""
    command = [sys.executable, "-c", PROGRAM, f"web-{end}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdin
        assert serving.stdout
        assert get(serving.stdout.readline().strip()) == "hello"
        if end == "kill":
            os.kill(serving.pid, signal.SIGKILL)
        serving.stdin.close()
        assert serving.wait(20) == (-signal.SIGKILL if end == "kill" else 0)
    assert until(lambda: not monitors(), 5)
    assert len(list(passing(home))) == (end == "kill")
    sweep(f"web-{end}")
    assert not list(passing(home))


def passing(home: Path) -> Iterator[Path]:
    return (home / "data" / "logs" / "passing").glob("*")


def sweep(app: str) -> None:
    """Forget the app, as another process."""
    script = "import sys, aegis_sdk; aegis_sdk.App.get(sys.argv[1]).delete(workspace=True)"
    subprocess.run([sys.executable, "-c", script, app], check=True, timeout=30)


def test_a_record_that_cannot_be_read(another):
    """An app whose record another Aegis has written keeps the daemon from nothing but that app."""
    daemon = another()
    daemon.start()
    for name in ("api", "web"):
        assert daemon.ask("POST", "/v1/apps", {"name": name}).status == 201
    daemon.stop()
    with closing(sqlite3.connect(daemon.home / "data" / "aegis.db")) as records, records:
        records.execute("UPDATE apps SET spec = '{}' WHERE name = 'api'".format('{"later": 1}'))
    daemon.start()
    assert daemon.ask("GET", "/v1/apps/web").json["name"] == "web"
    assert "api" in daemon.ask("GET", "/v1/apps/api").json["error"]["message"]
    daemon.stop()
