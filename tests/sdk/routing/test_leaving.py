"""Who leaves within a request: the other end notices, and nothing is left of it."""

from __future__ import annotations

import socket
import threading

from tests.conftest import until
from tests.sdk.routing.apps import World, connected, head, rest


def _ask(port: int, *lines: str, body: bytes = b"", path: str = "/app/web/", method: str = "GET") -> bytes:
    fields = "".join(f"{line}\r\n" for line in lines)
    return f"{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{fields}\r\n".encode() + body


def _leaving(world: World, port: int, *, how: str) -> threading.Event:
    """An app that never answers, a client that leaves; set when the app's connection has ended."""
    asked, ended = threading.Event(), threading.Event()

    def talk(connection: socket.socket) -> None:
        head(connection)
        asked.set()
        rest(connection)
        ended.set()

    world.add("web", talk)
    with connected(port) as client:
        client.sendall(_ask(port))
        assert asked.wait(10)
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    return ended


def test_a_client_that_breaks_off(world, router):
    """A client that is gone takes its request with it: the app sees its connection end."""
    assert _leaving(world, router.port, how="reset").wait(5)
    assert until(lambda: not world.held.total(), 5)


def test_a_client_that_closes(world, route):
    """A client that closed its connection is taken to be gone when it has been sent nothing for a while."""
    assert _leaving(world, route(half_closed=0.3).port, how="close").wait(5)
    assert until(lambda: not world.held.total(), 5)


def test_a_client_that_has_said_its_last(world, router):
    """A client may end its own direction and still gets its answer."""

    def talk(connection: socket.socket) -> None:
        asked = head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + asked[:2])

    world.add("web", talk)
    with connected(router.port) as client:
        client.sendall(_ask(router.port))
        client.shutdown(socket.SHUT_WR)
        assert rest(client).endswith(b"GE")


def test_a_client_that_leaves_within_its_body(world, router):
    """Half a body is no request: the app sees its connection end, and the client, if it listens, 400."""
    heard = []

    def talk(connection: socket.socket) -> None:
        heard.append(head(connection))
        heard.append(rest(connection))

    world.add("web", talk)
    with connected(router.port) as client:
        client.sendall(_ask(router.port, "Content-Length: 9", method="POST", body=b"half"))
        assert until(lambda: len(heard) > 0, 5)
        client.shutdown(socket.SHUT_WR)
        assert b" 400 " in rest(client)
    assert until(lambda: heard[1:] == [b"half"], 5)
    assert until(lambda: not world.held.total(), 5)


def test_uploads_that_break_off(world, router):
    """However many clients break off within their uploads, answered or not, nothing of them is left."""

    def talk(connection: socket.socket) -> None:
        if b"/early" in head(connection):
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        rest(connection)

    world.add("web", talk)
    for number in range(30):
        path = "/app/web/early" if number % 2 else "/app/web/"
        with connected(router.port) as client:
            client.sendall(_ask(router.port, "Content-Length: 5000000", method="PUT", path=path, body=bytes(100_000)))
            if number % 2:
                assert head(client)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert until(lambda: not world.held.total(), 5)
