"""What one client can cost, and that the others do not notice."""

from __future__ import annotations

import random
import socket
import threading
import time
from contextlib import suppress
from functools import partial

import httpx
import pytest

from tests.conftest import until
from tests.sdk.routing.apps import answering, connected, head, rest

_ASK = b"GET /app/web/ HTTP/1.1\r\nHost: localhost\r\n"


def test_long_heads(world, route):
    """A head, a target and a number of fields beyond the limit are refused as such, also on their way."""
    world.add("web", answering(b"x"))
    router = route(head=4096, target=1024, fields=20)
    asked = {
        _ASK + b"X: " + 5000 * b"y": b" 431 ",
        _ASK + b"X: " + 5000 * b"y" + b"\r\n\r\n": b" 431 ",
        _ASK + 21 * b"X: y\r\n" + b"\r\n": b" 431 ",
        b"GET /" + 2000 * b"y" + b" HTTP/1.1\r\nHost: localhost\r\n\r\n": b" 414 ",
        b"GET /" + 9000 * b"y": b" 414 ",
        _ASK + b"X: " + 3000 * b"y" + b"\r\nConnection: close\r\n\r\n": b" 200 ",
    }
    for raw, status in asked.items():
        with connected(router.port) as client:
            client.sendall(raw)
            assert status in rest(client).partition(b"\r\n")[0], raw[:80]


def test_large_bodies(world, route):
    """A body beyond the limit is refused with 413, whether its length is said before or not."""
    world.add("web", rest)
    router = route(body=1000)
    for fields, body in (
        (b"Content-Length: 1001\r\n\r\n", b""),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"3e9\r\n" + 1001 * b"y" + b"\r\n0\r\n\r\n"),
    ):
        with connected(router.port) as client:
            client.sendall(_ASK.replace(b"GET", b"POST") + fields + body)
            assert b" 413 " in head(client)


def test_silence(world, route):
    """Who says nothing is left; who stops within a head or a body is told so with 408."""
    world.add("web", rest)
    router = route(first_byte=0.3, whole_head=0.3, body_silence=0.3)
    for raw, answer in (
        (b"", b""),
        (_ASK, b" 408 "),
        (_ASK.replace(b"GET", b"POST") + b"Content-Length: 5\r\n\r\nab", b" 408 "),
    ):
        with connected(router.port) as client:
            client.sendall(raw)
            got = rest(client)
            assert got == answer if not answer else answer in got


def test_a_head_that_never_ends(world, route):
    """A head's time is one for all of it: a byte now and then does not lengthen it."""
    router = route(whole_head=0.5)
    with connected(router.port) as client:
        client.sendall(_ASK)
        client.settimeout(0.05)
        for _ in range(100):
            try:
                client.sendall(b"X")
                got = client.recv(1 << 16)
                break
            except TimeoutError:
                continue
        assert b" 408 " in got


@pytest.mark.timeout(60)
def test_slow_clients_hurt_nobody(world, router):
    """Two hundred clients that send a byte now and then, and one that never reads, leave the others their answers."""
    world.add("web", answering(b"x" * 100_000))
    slow = [socket.create_connection(("127.0.0.1", router.port)) for _ in range(200)]
    try:
        for client in slow[:-1]:
            client.sendall(_ASK)
        slow[-1].sendall((_ASK + b"\r\n") * 100)
        over = threading.Event()

        def drip() -> None:
            while not over.wait(0.01):
                random.choice(slow[:-1]).sendall(b"X")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            with httpx.Client() as quick:
                for _ in range(20):
                    start = time.monotonic()
                    assert len(quick.get(f"{router.url}/app/web/").content) == 100_000
                    assert time.monotonic() - start < 5
        finally:
            over.set()
            dripping.join()
    finally:
        for client in slow:
            client.close()


def test_who_does_not_read(world, route):
    """A client that takes nothing of its answer is left after a while, and the app's connection with it."""
    ended = threading.Event()

    def talk(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                connection.sendall(bytes(1 << 16))
        except OSError:
            ended.set()

    world.add("web", talk)
    router = route(unread=0.3)
    with connected(router.port) as client:
        client.sendall(_ASK + b"\r\n")
        assert ended.wait(10)
    assert until(lambda: not world.held.total(), 5)


def test_an_app_that_does_not_answer(world, route):
    """The client of an app that says nothing is told so after the time that it has: 504."""
    world.add("web", rest)
    answer = httpx.get(f"{route(answer=0.3).url}/app/web/")
    assert (answer.status_code, "has not answered within 0.3 s" in answer.text) == (504, True)


@pytest.mark.parametrize("kind", ["late", "never"])
def test_a_dial_that_takes_too_long(world, route, kind):
    """So is that of an app that takes no connection; and a connection that comes too late is closed."""
    world.add("web", answering(b"x"))
    dial, late = world.dial, threading.Event()

    def slow(instance, port, *, timeout):
        assert late.wait(10)
        if kind == "never":
            raise TimeoutError("nothing takes connections on port 8000")
        return dial(instance, port, timeout=timeout)

    world.dial = slow
    router = route(connect=0.3)
    answer = httpx.get(f"{router.url}/app/web/")
    late.set()
    assert answer.status_code == 504
    router.close()


def test_dials_of_one_instance(world, route):
    """One instance has so many connections made to it at once, and no more; others do not wait for it."""
    world.add("web", answering(b"x"))
    world.add("api", answering(b"api"))
    dial, go, now, most = world.dial, threading.Event(), [], []

    def slow(instance, port, *, timeout):
        if instance == "web-v1":
            now.append(port)
            most.append(len(now))
            assert go.wait(10)
            now.pop()
        return dial(instance, port, timeout=timeout)

    world.dial = slow
    router = route(dials=3)
    clients = [socket.create_connection(("127.0.0.1", router.port)) for _ in range(10)]
    for client in clients:
        client.sendall(_ASK + b"Connection: close\r\n\r\n")
    assert until(lambda: len(now) == 3, 5)
    assert httpx.get(f"{router.url}/app/api/").text == "api"
    go.set()
    for client in clients:
        assert rest(client).endswith(b"x")
        client.close()
    assert max(most) == 3


def test_a_dial_that_waits_for_its_turn(world, route):
    """Only the app's own slowness counts against the time for a connection, and not the turn of others."""
    world.add("web", answering(b"x"))
    dial = world.dial

    def slow(instance, port, *, timeout):
        time.sleep(0.2)
        return dial(instance, port, timeout=timeout)

    world.dial = slow
    router = route(dials=1, connect=0.6)
    clients = [socket.create_connection(("127.0.0.1", router.port)) for _ in range(6)]
    for client in clients:
        client.sendall(_ASK + b"Connection: close\r\n\r\n")
    for client in clients:
        assert rest(client).endswith(b"x")
        client.close()


def test_too_many_connections(world, route):
    """Beyond the limit, a connection that is not in use makes room; if all are, the next one is told: 503."""
    asked, go = [], threading.Event()

    def talk(connection: socket.socket) -> None:
        asked.append(head(connection))
        assert go.wait(10)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")

    world.add("web", talk)
    router = route(connections=16)
    idle = [socket.create_connection(("127.0.0.1", router.port)) for _ in range(16)]
    busy = []
    for number in range(16):
        busy.append(socket.create_connection(("127.0.0.1", router.port)))
        busy[-1].sendall(_ASK + b"\r\n")
        assert until(partial(_more_than, asked, number), 5)
    assert all(rest(client) == b"" for client in idle)
    with connected(router.port) as client:
        client.sendall(_ASK + b"\r\n")
        got = rest(client)
        assert got.startswith(b"HTTP/1.1 503 ")
        assert b"too many connections" in got
    go.set()
    for client in busy:
        assert b" 200 " in head(client)
    for client in (*idle, *busy):
        client.close()


def _more_than(asked: list[bytes], number: int) -> bool:
    return len(asked) > number


def test_more_than_too_many(world, route):
    """Far beyond the limit, connections are just closed, and the router serves when there is room again."""
    world.add("web", rest)
    router = route(connections=8, half_closed=0.2)
    clients = [socket.create_connection(("127.0.0.1", router.port)) for _ in range(100)]
    for client in clients:
        with suppress(OSError):  # it may have been closed already
            client.sendall(_ASK + b"\r\n")
    for client in clients:
        client.close()
    world.add("api", answering(b"api"))

    def served() -> bool:
        try:
            return httpx.get(f"{router.url}/app/api/").status_code == 200
        except httpx.ReadError:
            return False

    assert until(served, 10)


def test_kept_connections_end(world, route):
    """A connection to an app that nobody used for a while is closed, and so is one too many."""
    open_now: list[int] = [0]
    lock = threading.Lock()
    serve = answering(b"x")

    def talk(connection: socket.socket) -> None:
        with lock:
            open_now[0] += 1
        serve(connection)
        with lock:
            open_now[0] -= 1

    world.add("web", talk)
    router = route(kept=0.5, pooled=2)
    clients = [socket.create_connection(("127.0.0.1", router.port)) for _ in range(5)]
    for client in clients:
        client.sendall(_ASK + b"Connection: close\r\n\r\n")
    for client in clients:
        assert rest(client).endswith(b"x")
        client.close()
    assert open_now[0] <= 2 or until(lambda: open_now[0] <= 2, 5)
    assert until(lambda: open_now[0] == 0, 5)
