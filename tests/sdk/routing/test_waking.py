"""Apps that sleep: one wake for all who ask, and no request that is lost for it."""

from __future__ import annotations

import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import attrs
import httpx
import pytest

import aegis_sdk as aegis
from aegis_sdk.routing.base import Asleep
from tests.conftest import until
from tests.sdk.routing.apps import answering, connected, head, rest


def _ask(port: int, path: str = "/app/web/", *fields: str, method: str = "GET") -> bytes:
    """All of the answer to one request on a connection of its own."""
    with connected(port) as client:
        lines = "".join(f"{field}\r\n" for field in fields)
        client.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n".encode())
        return rest(client)


def test_a_hundred_at_once(world, router):
    """A hundred requests at once to an app that sleeps are one wake, and each is answered."""
    web = world.add("web", answering(b"awake"), awake=False)
    world.waking = lambda _: until(lambda: world.held[web] >= 100, 15) or pytest.fail("not all of them wait")
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: _ask(router.port), range(100)))
    assert all(answer.endswith(b"awake") for answer in answers)
    assert [call for call in world.calls if "wake" in call] == ["wake web-v1"]
    assert until(lambda: not world.held.total(), 5)


def test_others_do_not_wait(world, router):
    """While one app wakes, another one answers."""
    world.add("web", answering(b"awake"), awake=False)
    world.add("api", answering(b"api"))
    go = threading.Event()
    world.waking = lambda _: go.wait(10)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_ask, router.port)
        assert until(lambda: "wake web-v1" in world.calls, 5)
        assert _ask(router.port, "/app/api/").endswith(b"api")
        assert not waiting.done()
        go.set()
        assert waiting.result().endswith(b"awake")


class Impatient:
    """A policy by which everybody waits for a fifth of a second."""

    name = "impatient"

    def route(self, _request, _apps, so_far):
        return attrs.evolve(so_far, wait=0.2)


@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_while_it_wakes(world, route, accept):
    """Who has waited as long as the policy says is told to come again: a browser by a page that does so by itself."""
    world.add("web", answering(b"awake"), awake=False)
    router, go = route(policies=[Impatient()]), threading.Event()
    world.waking = lambda _: go.wait(10)
    with httpx.Client(headers={"Accept": accept}) as client:
        answer = client.get(f"{router.url}/app/web/")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["cache-control"] == "no-store"
        assert ('http-equiv="refresh"' in answer.text) == (accept == "text/html")
        go.set()
        assert until(lambda: world.awake["web-v1"], 5)
        assert client.get(f"{router.url}/app/web/").text == "awake"
    assert world.calls.count("wake web-v1") == 1


@pytest.mark.parametrize(
    ("kind", "status"), [(aegis.BootFailed, 502), (aegis.ServerFailed, 503), (aegis.NotServed, 503)]
)
def test_a_wake_that_fails(world, router, kind, status):
    """Why an app cannot be woken is what its clients are told; the next one tries again."""
    world.add("web", answering(b"awake"), awake=False)

    def fail(_: str) -> None:
        raise kind("the server ended with code 1: <no such module>")

    world.waking = fail
    answer = httpx.get(f"{router.url}/app/web/", headers={"Accept": "application/json"})
    assert answer.status_code == status
    assert "the server ended with code 1: <no such module>" in answer.text
    world.waking = lambda _: None
    assert httpx.get(f"{router.url}/app/web/").text == "awake"


def test_a_client_that_leaves_while_it_wakes(world, router):
    """Who leaves does not wait further, and the wake goes on for who comes back."""
    web, go = world.add("web", answering(b"awake"), awake=False), threading.Event()
    world.waking = lambda _: go.wait(10)
    with connected(router.port) as client:
        client.sendall(b"GET /app/web/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert until(lambda: world.held[web] == 1, 5)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert until(lambda: not world.held[web], 5)
    go.set()
    assert _ask(router.port).endswith(b"awake")
    assert world.calls.count("wake web-v1") == 1


def test_asleep_again_before_the_dial(world, router):
    """An instance that falls asleep between its wake and the dial is woken once more."""
    world.add("web", answering(b"awake"))
    dial, tries = world.dial, []

    def sleepy(instance, port, *, timeout):
        tries.append(instance)
        if len(tries) < 3:
            raise Asleep
        return dial(instance, port, timeout=timeout)

    world.dial = sleepy
    assert _ask(router.port).endswith(b"awake")
    assert world.calls.count("wake web-v1") == 2


def test_one_that_does_not_stay_awake(world, router):
    """One that is never there when it is dialled is given up."""
    world.add("web", answering(b"awake"))
    world.dial = lambda *_, **__: (_ for _ in ()).throw(Asleep())
    assert b" 503 " in _ask(router.port)
    assert until(lambda: not world.held.total(), 5)


def test_connections_do_not_outlive_a_sleep(world, router):
    """A connection that was kept from before an instance slept is not used after it: the guest may be another one."""
    web = world.add("web", answering(b"x"))
    assert _ask(router.port).endswith(b"x")
    assert _ask(router.port).endswith(b"x")
    assert len(world.calls) == 1
    world.awake[web] = False
    assert _ask(router.port).endswith(b"x")
    assert world.calls[1:] == ["wake web-v1", "dial web-v1:8000"]


@pytest.mark.timeout(60)
def test_races_with_sleep(world, router):
    """Requests race with an engine that has the instance sleep whenever nobody holds it: none is lost or refused."""
    web, over = world.add("web", answering(b"x")), threading.Event()

    def doze() -> None:
        while not over.wait(random.random() / 1000):
            with world._lock:
                if not world.held[web]:
                    world.awake[web] = False

    dozing = threading.Thread(target=doze)
    dozing.start()
    try:
        with ThreadPoolExecutor(2) as pool:
            methods = [random.choice(["GET", "POST", "DELETE"]) for _ in range(500)]
            answers = list(pool.map(lambda method: _ask(router.port, method=method), methods))
    finally:
        over.set()
        dozing.join()
    assert all(answer.endswith(b"\r\n\r\nx") for answer in answers)
    assert world.calls.count("wake web-v1") > 10


def test_an_upload_waits(world, router):
    """A body is not read before the app is awake to take it, and then arrives whole."""
    got: list[int] = []

    def talk(connection: socket.socket) -> None:
        head(connection)
        got.append(sum(len(connection.recv(1 << 16, socket.MSG_WAITALL)) for _ in range(64)))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    world.add("web", talk, awake=False)
    go = threading.Event()
    world.waking = lambda _: go.wait(10)
    threading.Timer(0.3, go.set).start()
    answer = httpx.post(f"{router.url}/app/web/", content=bytes(64 << 16))
    assert (answer.text, got) == ("ok", [64 << 16])
