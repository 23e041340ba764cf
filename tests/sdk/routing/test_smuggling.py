"""Requests that two readers could count differently: refused over a real socket, and nothing reaches the app."""

from __future__ import annotations

import pytest

from tests.sdk.routing.apps import answering, connected, rest
from tests.sdk.routing.test_heads import LENGTHS, REFUSED

_SECOND = b"GET /app/web/second HTTP/1.1\r\nHost: localhost\r\n\r\n"
_BODIES = {
    "a prefix": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "a space": b"5 \r\nhello\r\n0\r\n\r\n",
    "a bare line feed": b"5\nhello\r\n0\r\n\r\n",
    "a line feed in an extension": b"5;\nhello\r\n0\r\n\r\n",
    "more than its size": b"5\r\nhello, world\r\n0\r\n\r\n",
    "a folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "a body at once": b"5\r\nhello0\r\n\r\n",
}


def _sent(port: int, raw: bytes) -> bytes:
    """All that comes back for *raw* and, right behind it, a second request."""
    with connected(port) as client:
        client.sendall(raw + _SECOND)
        return rest(client)


@pytest.mark.parametrize("name", REFUSED)
def test_heads(world, router, name):
    """A head that is none is answered with 400, and the connection ends before what follows it is read."""
    world.add("web", answering())
    got = _sent(router.port, REFUSED[name].replace(b" / ", b" /app/web/ "))
    assert got.startswith(b"HTTP/1.1 400 "), got
    assert b"second" not in got
    assert not world.calls


@pytest.mark.parametrize("name", [name for name, (_, framing) in LENGTHS.items() if framing is None])
def test_lengths(world, router, name):
    """So is one whose body's length is not said in one way."""
    world.add("web", answering())
    fields = b"\r\n".join(LENGTHS[name][0])
    got = _sent(
        router.port, b"POST /app/web/ HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    )
    assert got.startswith(b"HTTP/1.1 400 "), got
    assert got.count(b"HTTP/1.1") == 1
    assert not world.calls


@pytest.mark.parametrize("name", _BODIES)
def test_chunks(world, router, name):
    """Chunks that are none end the request with 400, for the app too, and what follows is not read."""
    heard: list[bytes] = []

    def talk(connection):
        heard.append(rest(connection))

    world.add("web", talk)
    head = b"POST /app/web/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    got = _sent(router.port, head + _BODIES[name])
    assert got.startswith(b"HTTP/1.1 400 "), got
    assert got.count(b"HTTP/1.1") == 1
    world.close()
    assert not any(b"second" in all_ or all_.endswith(b"0\r\n\r\n") for all_ in heard)


def test_what_an_app_answers_too_much(world, router):
    """An app cannot put an answer in the place of the next request's."""

    def talk(connection):
        connection.recv(1 << 16)
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
        )
        rest(connection)

    world.add("web", talk)
    with connected(router.port) as client:
        client.sendall(_SECOND + _SECOND.replace(b"Host", b"Connection: close\r\nHost"))
        got = rest(client)
    assert got.count(b"\r\n\r\nok") == 2
    assert b"evil" not in got
