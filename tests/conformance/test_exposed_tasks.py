"""Tasks whose ports are reached while they run."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import pytest

import aegis_sdk as aegis
from aegis_sdk.engine import exposed
from tests.conftest import monitors, until
from tests.sdk.routing.apps import connected, exactly, rest

pytestmark = [pytest.mark.both_engines, pytest.mark.timeout(60)]

#: Servers, most of which bind the guest's own loopback, after a while.
SERVERS = """
    mkdir /tmp/www; echo hello > /tmp/www/index.html; sleep 0.5
    nc -ll -p 5432 -e cat & httpd -p 127.0.0.1:9000 -h /etc; httpd -f -p 127.0.0.1:8000 -h /tmp/www
"""


@pytest.fixture
def submit() -> Iterator[Callable[..., aegis.Task]]:
    """Submits tasks, which end with the test."""
    made: list[aegis.Task] = []

    def submit(*command: str, **options: object) -> aegis.Task:
        made.append(aegis.Task.submit(*command, **options))  # type: ignore[arg-type]
        return made[-1]

    yield submit
    for task in made:
        task.cancel()
    for task in made:
        assert task.wait(30).state.terminal


def _running(task: aegis.Task) -> aegis.TaskInfo:
    assert until(lambda: task.state is not aegis.TaskState.QUEUED, 20)
    return task.info()


def test_what_is_reached_while_it_runs(submit):
    """Requests wait until its command listens; its other ports have addresses, too; after its end nothing is there."""
    task = submit("sh", "-c", SERVERS, expose=[8000, 9000, "5432/tcp"])
    info = _running(task)
    assert info.url.endswith(f"/app/task-{task.id}/")
    with httpx.Client(base_url=info.url, timeout=30) as client:
        assert client.get("/").text == "hello\n"
        assert "root" in client.get("/passwd", headers={"X-Aegis-Port": "9000"}).text
        assert client.get("/", headers={"X-Aegis-Port": "5432"}).status_code == 404
    (address,) = info.addresses.values()
    with connected(int(address.rpartition(":")[2])) as client:
        client.sendall(b"\0raw\xff\n")
        assert exactly(client, 6) == b"\0raw\xff\n"
        task.cancel()
        assert task.wait(30).state is aegis.TaskState.CANCELLED
        assert rest(client) == b""
    assert (task.info().url, task.info().addresses) == ("", {})
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))
    with suppress(httpx.ConnectError):  # where the router goes on
        assert httpx.get(info.url).status_code == 404


def test_a_port_that_is_taken(submit):
    """It fails with the port, before anything boots."""
    before = monitors()
    with socket.create_server(("127.0.0.1", 0)) as other:
        local = other.getsockname()[1]
        info = submit("true", expose=[f"{local}:5432/tcp"]).wait(30)
    assert (info.state, f"127.0.0.1:{local}" in info.reason) == (aegis.TaskState.FAILED, True)
    assert monitors() <= before


@pytest.mark.in_process
def test_why_it_is_not_reached(submit, monkeypatch):
    """Who asks a command that listens elsewhere is told where; one that has ended is no app any more."""
    monkeypatch.setattr(exposed, "_LISTEN", 0.5)
    task = submit("httpd", "-f", "-p", "127.0.0.1:9000", expose=[8000])
    url = _running(task).url
    answer = httpx.get(url, timeout=30)
    assert (answer.status_code, "it listens on port 9000 instead" in answer.text) == (503, True)
    assert httpx.get(url, headers={"Accept": "text/html"}, timeout=30).headers["content-type"].startswith("text/html")


def test_what_cannot_be_exposed():
    """Ports that are none, too many or twice there are refused before anything is on record."""
    for ports in ([0], ["8000/udp"], [8000, "8000/tcp"], range(1, 18), "8000", ["8080:8000"]):
        with pytest.raises(aegis.InvalidValue):
            aegis.Task.submit("true", expose=ports)  # type: ignore[arg-type]
