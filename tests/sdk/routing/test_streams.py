"""What lasts: events as they happen, WebSockets, uploads and answers at once, and each direction's own end."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import threading

import httpx
import pytest

from tests.conftest import until
from tests.sdk.routing.apps import answering, connected, exactly, head, rest

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"


def _start(port: int, fields: str = "", path: str = "/app/web/", method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{fields}\r\n".encode()


def test_events_pass_at_once(world, router):
    """Each event reaches the client before the next one happens."""
    happened: list[threading.Event] = [threading.Event() for _ in range(5)]

    def talk(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number, event in enumerate(happened):
            assert event.wait(10)
            connection.sendall(b"9\r\ndata: %d\n\n\r\n" % number)
        connection.sendall(b"0\r\n\r\n")

    world.add("web", talk)
    with httpx.Client() as client, client.stream("GET", f"{router.url}/app/web/") as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = answer.iter_lines()
        for number, event in enumerate(happened):
            assert world.held["web-v1"] == 1  # a stream is in use, however long nothing happens
            event.set()
            assert next(lines) == f"data: {number}"
            assert next(lines) == ""


def test_who_leaves_a_stream(world, router):
    """A client that leaves a stream ends it for the app, as soon as there is something to say."""
    over = threading.Event()

    def talk(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while not over.wait(0.02):
                connection.sendall(b"data: x\n\n")
        except OSError:
            over.set()

    world.add("web", talk)
    try:
        with httpx.Client() as client, client.stream("GET", f"{router.url}/app/web/") as answer:
            assert next(answer.iter_lines()) == "data: x"
        assert over.wait(10)
        assert until(lambda: not world.held.total(), 5)
    finally:
        over.set()


def _websocket(connection: socket.socket) -> None:
    """A WebSocket server that sends back whatever message it gets, and ends when the client does."""
    asked = head(connection)
    (key,) = [
        line.partition(b": ")[2] for line in asked.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
    ]
    accept = base64.b64encode(hashlib.sha1(key + _MAGIC).digest())
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    while start := connection.recv(1, socket.MSG_WAITALL):
        (size,) = exactly(connection, 1)
        mask = exactly(connection, 4)
        data = bytes(byte ^ mask[place % 4] for place, byte in enumerate(exactly(connection, size & 127)))
        connection.sendall(start + bytes([len(data)]) + data)
        if start == b"\x88":
            return


def _frame(kind: int, data: bytes) -> bytes:
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
    return bytes([0x80 | kind, 0x80 | len(data)]) + mask + masked


def _opened(client: socket.socket, port: int, key: bytes = b"dGhlIHNhbXBsZSBub25jZQ==") -> None:
    client.sendall(_start(port, _UPGRADE + f"Sec-WebSocket-Key: {key.decode()}\r\n"))
    answer = head(client)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
    assert b"Upgrade: websocket\r\n" in answer


def test_a_websocket(world, router):
    """Messages go both ways, and the connection counts as in use until it is closed."""
    world.add("web", _websocket)
    with connected(router.port) as client:
        _opened(client, router.port)
        for text in (b"hello", b"", b"again" * 20):
            client.sendall(_frame(1, text))
            assert exactly(client, 2 + len(text))[2:] == text
        assert world.held["web-v1"] == 1
        client.sendall(_frame(8, b""))
        assert rest(client) == b"\x88\0"
    assert until(lambda: not world.held.total(), 5)


def test_a_message_with_the_request(world, router):
    """What a client sends right behind its request is the app's, once it has agreed."""
    world.add("web", _websocket)
    with connected(router.port) as client:
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        client.sendall(_start(router.port, _UPGRADE + key) + _frame(1, b"early"))
        assert head(client)
        assert exactly(client, 7)[2:] == b"early"


def test_an_idle_websocket(world, route):
    """No limit of time is a WebSocket's: it is quiet for twenty times as long as any of them, and answers."""
    world.add("web", _websocket)
    short = dict.fromkeys(("first_byte", "whole_head", "body_silence", "unread", "half_closed", "answer", "kept"), 0.05)
    router = route(**short)
    with connected(router.port) as client:
        _opened(client, router.port)
        threading.Event().wait(1)
        client.sendall(_frame(1, b"still here"))
        assert exactly(client, 12)[2:] == b"still here"
        assert world.held["web-v1"] == 1


def test_who_refuses_a_websocket(world, router):
    """An app that does not upgrade answers as to any other request."""
    world.add("web", answering(b"no"))
    with connected(router.port) as client:
        client.sendall(_start(router.port, _UPGRADE) + _start(router.port, "Connection: close\r\n"))
        got = rest(client)
    assert got.count(b"HTTP/1.1 200 OK") == 2


def test_a_websocket_from_another_site(world, router):
    """A page of another site cannot open one, which browsers leave to the server to see to."""
    world.add("web", _websocket)
    with connected(router.port) as client:
        client.sendall(_start(router.port, _UPGRADE + "Origin: https://evil.example\r\n"))
        assert b" 403 " in head(client)
    assert not world.calls


@pytest.mark.parametrize("first", ["client", "app"])
def test_each_direction_ends_on_its_own(world, router, first):
    """In a tunnel, one side may have said all, and still be told more."""
    from_client: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: raw\r\nConnection: Upgrade\r\n\r\n")
        if first == "app":
            connection.sendall(b"all that I say")
            connection.shutdown(socket.SHUT_WR)
        from_client.append(rest(connection))
        if first == "client":
            connection.sendall(b"all that I say")

    world.add("web", talk)
    with connected(router.port) as client:
        client.sendall(_start(router.port, "Connection: Upgrade\r\nUpgrade: raw\r\n"))
        assert b" 101 " in head(client)
        if first == "app":
            assert rest(client) == b"all that I say"
        client.sendall(b"all of mine")
        client.shutdown(socket.SHUT_WR)
        if first == "client":
            assert rest(client) == b"all that I say"
        assert until(lambda: from_client == [b"all of mine"], 5)


def test_an_answer_before_the_upload_is_over(world, router):
    """An app may answer piece by piece while the body comes piece by piece."""

    def talk(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        for _ in range(5):
            connection.sendall(exactly(connection, 4).upper())

    world.add("web", talk)
    with connected(router.port) as client:
        client.sendall(_start(router.port, "Content-Length: 20\r\n", method="POST"))
        answer = head(client)
        assert b"Transfer-Encoding: chunked\r\n" in answer
        for number in range(5):
            client.sendall(b"abc%d" % number)
            assert exactly(client, 9) == b"4\r\nABC%d\r\n" % number
        assert rest(client) == b"0\r\n\r\n"
