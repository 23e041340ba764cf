"""HTTP through the daemon's router to servers in real guests, and what of it all a guest or the host gets to see."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import aegis_sdk as aegis
from tests.conftest import ROOT, until
from tests.images_made import said
from tests.sdk.routing.apps import connected, exactly, head, rest
from tests.sdk.routing.test_heads import LENGTHS, REFUSED
from tests.served import Served
from tests.websockets import echoes, socket_to

_SERVER = (ROOT / "tests" / "in_guest" / "web.py").read_text()
#: A GiB each way, and ten thousand requests, if AEGIS_TEST_GIB=1.
_MIB, _MANY, _SECONDS = (1024, 10_000, 600) if os.environ.get("AEGIS_TEST_GIB") else (64, 500, 60)

pytestmark = [pytest.mark.of_qemu, pytest.mark.timeout(_SECONDS)]


@pytest.fixture(scope="module")
def served(home, tmp_path_factory) -> Iterator[Served]:
    """A daemon for whom the example of a routing policy is installed."""
    work = tmp_path_factory.mktemp("canary")
    source = shutil.copytree(
        ROOT / "examples" / "aegis-canary", work / "source", ignore=shutil.ignore_patterns("__pycache__")
    )
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    said(*pip, "--no-deps", "--no-index", "--no-build-isolation", "--target", work / "installed", source)
    daemon = Served.made(tmp_path_factory.mktemp("daemon"), home / "data" / "images")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(work / "installed"))
        daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="module")
def app(served, registry) -> Iterator[aegis.App]:
    """An app that speaks HTTP on two ports, and echoes on another."""
    app = aegis.App.create(
        "web",
        image=registry.name("python:1"),
        command=["python3", "-c", _SERVER],
        expose=[8000, 9000, "5432/tcp"],
        memory=256,
        env={"RELEASE": "v1"},
        engine=served.engine,
    )
    app.publish(label="v1")
    yield app
    app.delete(workspace=True)


@pytest.fixture(scope="module")
def web(app: aegis.App) -> aegis.Instance:
    """What serves it."""
    return app.serve()


@pytest.fixture
def client(web) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=web.url, timeout=60) as client:
        yield client


def _port(url: str) -> int:
    return httpx.URL(url).port or 0


def _seen(client: httpx.Client) -> list[str]:
    return list(client.get("/seen").json()["seen"])


def test_what_a_server_is_told(client):
    """The path without its prefix, who asks, and the port that is meant; and another port by header and path."""
    got = client.get("/a/b?c=d").json()
    assert (got["target"], got["port"], got["fields"]["x-forwarded-prefix"]) == ("/a/b?c=d", 8000, "/app/web")
    assert got["fields"]["x-forwarded-for"] == "127.0.0.1"
    assert client.get("/", headers={"X-Aegis-Port": "9000"}).json()["port"] == 9000
    assert httpx.get(str(client.base_url).rstrip("/") + ":9000/x").json()["port"] == 9000
    assert client.get("/", headers={"X-Aegis-Port": "9999"}).status_code == 404, "it is not exposed"


def test_what_could_be_smuggled(client):
    """Each request that two readers could count differently is refused, and nothing of it has come to the server."""
    before, second = len(_seen(client)), b"GET /app/web/second HTTP/1.1\r\nHost: localhost\r\n\r\n"
    raw = [REFUSED[name].replace(b" / ", b" /app/web/smuggled ") for name in REFUSED]
    start = b"POST /app/web/smuggled HTTP/1.1\r\nHost: localhost\r\n"
    chunks = b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    raw += [start + b"\r\n".join(fields) + chunks for fields, framing in LENGTHS.values() if framing is None]
    for request in raw:
        with connected(_port(str(client.base_url))) as line:
            line.sendall(request + second)
            assert rest(line).startswith(b"HTTP/1.1 400 "), request
    assert _seen(client)[before:] == ["GET /seen"]
    assert len(raw) > 40


def _memory(pid: int | None) -> int:
    """What a process has resident, in MiB."""
    words = Path(f"/proc/{pid}/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) >> 10


def test_much_up_and_down(client, served):
    """However much goes up and down, the daemon's memory stays what it was."""
    client.get("/")
    before, piece = _memory(served.pid), bytes(1 << 20)
    assert client.post("/up", content=(piece for _ in range(_MIB))).json()["body"] == _MIB << 20
    got = 0
    with client.stream("GET", f"/pour?{_MIB << 20}") as answer:
        for part in answer.iter_raw():
            got += len(part)
    assert got == _MIB << 20
    assert _memory(served.pid) - before < 24


def test_events(client):
    """A server's events come one by one, as they are sent."""
    got = []
    with client.stream("GET", "/events") as answer:
        for line in answer.iter_lines():
            if line:
                got.append(line)
                httpx.get(f"{client.base_url}next", timeout=60)  # until which the next is not sent
    assert got == ["data: 0", "data: 1", "data: 2"]


def test_a_connection_that_is_kept(client):
    """Many requests over one connection are all answered."""
    with connected(_port(str(client.base_url))) as line:
        for number in range(_MANY):
            line.sendall(b"GET /app/web/%d HTTP/1.1\r\nHost: localhost\r\nX-Aegis-Port: 9000\r\n\r\n" % number)
            said = head(line)
            body = exactly(line, int(said.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            assert json.loads(body)["target"] == f"/{number}"


def test_a_websocket(web):
    """It echoes frame by frame, until it is closed."""
    with socket_to(web.url) as line:
        assert all(echoes(line, b"hello %d" % number) for number in range(100))


def test_two_releases(app, client):
    """A release that is served beside another gets those whom a policy sends there, and nobody else."""
    app.update(env={"RELEASE": "v2"}, command=["python3", "-c", _SERVER.replace('"port": port', '"port": 2')])
    app.publish(label="v2")
    app.serve(beside=True)

    def release(**fields: str) -> int:
        return int(client.get("/", headers=fields).json()["port"])

    assert [release(**{"X-Canary": wish}) for wish in ("always", "never")] == [2, 8000]
    got = [release(**{"X-User": str(user), "X-Canary-Percent": "30"}) for user in range(40)]
    assert {2, 8000} == set(got)
    app.stop(release="v2")
    assert release(**{"X-Canary": "always"}) == 8000


def test_a_tcp_port_wakes_its_app(app, web):
    """A connection to a declared port boots what has ended; the port is there until its app is stopped."""
    (address,) = web.addresses.values()
    port = int(address.rpartition(":")[2])
    web.sandbox.remove()
    assert until(lambda: web.state is aegis.InstanceState.STOPPED, 10)
    with connected(port) as line:
        line.sendall(b"\0raw")
        assert exactly(line, 4) == b"\0raw"
        assert web.state is aegis.InstanceState.RUNNING
    app.stop()
    with pytest.raises(ConnectionRefusedError), connected(port):
        pass
