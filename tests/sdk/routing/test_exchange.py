"""One request and its answer, byte for byte, from a client's socket to an app's."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import pytest

from aegis_sdk.routing.bodies import reading
from aegis_sdk.routing.framing import CHUNKED
from tests.conftest import until
from tests.sdk.routing.apps import answering, connected, exactly, head, length, rest, saying


def _ask(port: int, *lines: str, body: bytes = b"", path: str = "/app/web/", method: str = "GET") -> bytes:
    fields = "".join(f"{line}\r\n" for line in lines)
    return f"{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\n{fields}\r\n".encode() + body


def _answer(client: socket.socket) -> tuple[bytes, bytes]:
    """The next answer's head, and the body that its length says."""
    first = head(client)
    return first, exactly(client, length(first))


class Heard:
    """An app that notes all it gets, answers when a request's head has come, and hangs up."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") -> None:
        self.answer, self.head, self.body = answer, b"", b""
        self.ended = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        self.head = head(connection)
        self.body = exactly(connection, length(self.head))
        connection.sendall(self.answer)
        rest(connection)
        self.ended.set()


def test_a_body_with_a_length(world, router):
    """A body arrives as it was sent, in whatever pieces, and the connection can be used for more."""
    world.add("web", app := Heard())
    world.add("echo", answering())
    with connected(router.port) as client:
        client.sendall(_ask(router.port, "Content-Length: 5", method="POST", body=b"he"))
        assert until(lambda: app.head != b"", 5)
        client.sendall(b"l")
        client.sendall(b"lo" + _ask(router.port, path="/app/echo/next"))
        assert _answer(client)[1] == b"ok"
        assert app.body == b"hello"
        assert _answer(client)[1].startswith(b"GET /next ")


def test_a_body_in_chunks(world, router):
    """Chunks arrive as chunks, without extensions, and with those fields after them that may pass."""
    sent = b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\nContent-Length: 3\r\n\r\n"
    heads, bodies, contents = [], [reading(CHUNKED)], bytearray()

    def talk(connection: socket.socket) -> None:
        heads.append(head(connection))
        while not bodies[0].done:
            piece = connection.recv(1 << 16)
            assert b";" not in piece
            contents.extend(bodies[0].feed(piece))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    world.add("web", talk)
    with connected(router.port) as client:
        client.sendall(_ask(router.port, "Transfer-Encoding: chunked", method="POST", body=sent))
        assert _answer(client)[1] == b"ok"
    assert b"Transfer-Encoding: chunked\r\n" in heads[0]
    assert (contents, list(bodies[0].trailers)) == (b"abcde", [("X-Sum", "1")])


def test_pipelining(world, router):
    """Several requests at once are answered in their order."""
    world.add("web", answering())
    with connected(router.port) as client:
        client.sendall(b"".join(_ask(router.port, path=f"/app/web/{number}") for number in range(20)))
        for number in range(20):
            assert _answer(client)[1].startswith(b"GET /%d " % number)


ANSWERS = {
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"Content-Length: 5\r\n\r\nhello"),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    ),
    "until it closes": (
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    "nothing": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"Content-Length: 0\r\n\r\n"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b"204 No Content\r\n\r\n"),
    "line feeds": (
        b"HTTP/1.1 200 OK\nContent-Length: 8\n\na\r\n\r\nbcd",
        b"Content-Length: 8\r\n\r\na\r\n\r\nbcd",
    ),
    "some line feeds": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok", b"Content-Length: 2\r\n\r\nok"),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b"Content-Length: 5\r\n\r\n"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answers_end(world, router, name):
    """Wherever an answer's body ends for the app, the client sees that end, and asks more on its connection."""
    said, expected = ANSWERS[name]
    world.add("web", saying(said))
    world.add("next", answering(b"next"))
    with connected(router.port) as client:
        client.sendall(_ask(router.port) + _ask(router.port, "Connection: close", path="/app/next/"))
        got = rest(client)
    first, _, _ = got.partition(b"HTTP/1.1 200 OK\r\nConnection: close")
    assert first.endswith(expected), got
    assert got.endswith(b"next")


def test_head(world, router):
    """HEAD gets the head alone, whatever length it says, and the next answer is the next request's."""
    world.add("web", saying(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"))
    world.add("next", answering(b"next"))
    with connected(router.port) as client:
        client.sendall(_ask(router.port, method="HEAD") + _ask(router.port, path="/app/next/"))
        assert b"Content-Length: 5\r\n" in head(client)
        assert _answer(client)[1] == b"next"


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        (b"GET /app/web/ HTTP/1.0\r\n\r\n", False),
        (b"GET /app/web/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
        (b"GET /app/web/ HTTP/1.1\r\nHost: localhost\r\n\r\n", True),
        (b"GET /app/web/ HTTP/1.1\r\nHost: localhost\r\nConnection: Close\r\n\r\n", False),
        (b"\r\nGET /app/web/ HTTP/1.1\r\nHost: localhost\r\n\r\n", True),
    ],
)
def test_whether_a_connection_stays(world, router, asked, kept):
    """A connection stays as its HTTP version and the client say."""
    world.add("web", answering(b"hello"))
    with connected(router.port) as client:
        client.sendall(asked)
        answer, body = _answer(client)
        assert body == b"hello"
        assert (b"Connection: close" not in answer) == kept
        if kept:
            client.sendall(asked)
            assert _answer(client)[1] == b"hello"
        else:
            assert rest(client) == b""


def test_chunks_for_an_old_client(world, router):
    """A client of HTTP/1.0 gets no chunks, but the end of the connection."""
    world.add("web", saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
    with connected(router.port) as client:
        client.sendall(b"GET /app/web/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert rest(client) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"


def test_what_comes_before_the_answer(world, router):
    """Other answers before the one, as 103, pass to who knows them."""
    said = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    world.add("web", saying(said))
    for version, first in (
        (b"1.1", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200"),
        (b"1.0", b"HTTP/1.1 200"),
    ):
        with connected(router.port) as client:
            client.sendall(b"GET /app/web/ HTTP/" + version + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert rest(client).startswith(first)


def test_a_body_on_demand(world, router):
    """A client that waits for 100 gets the app's, sends its body then, and not before."""
    app = Heard()

    def talk(connection: socket.socket) -> None:
        app.head = head(connection)
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        app.body = exactly(connection, 5)
        connection.sendall(app.answer)

    world.add("web", talk)
    with connected(router.port) as client:
        client.sendall(_ask(router.port, "Expect: 100-continue", "Content-Length: 5", method="PUT"))
        assert head(client) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert b"Expect: 100-continue\r\n" in app.head
        client.sendall(b"hello")
        assert _answer(client)[1] == b"ok"
    assert app.body == b"hello"


def test_a_body_that_is_not_wanted(world, router):
    """An app that refuses before the body has come is heard, and the connection is not used further."""
    world.add("web", saying(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!"))
    with connected(router.port) as client:
        client.sendall(_ask(router.port, "Expect: 100-continue", "Content-Length: 5", method="PUT"))
        answer, body = _answer(client)
        assert (b" 413 " in answer, b"Connection: close" in answer, body) == (True, True, b"no!")
        assert rest(client) == b""


def test_an_upload_that_is_refused_on_the_way(world, router):
    """An app that answers and hangs up within an upload is heard, however much was on its way."""
    world.add("web", saying(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nno!"))
    with connected(router.port) as client:
        client.sendall(_ask(router.port, "Content-Length: 50000000", method="PUT"))
        sender = threading.Thread(target=_send_all, args=(client, 50_000_000))
        sender.start()
        assert _answer(client)[1] == b"no!"
        client.shutdown(socket.SHUT_RDWR)
        sender.join()


def _send_all(client: socket.socket, size: int) -> None:
    with suppress(OSError):  # that it is refused is what the test is about
        client.sendall(bytes(size))


def test_other_expectations(world, router):
    """Nothing but 100-continue can be expected: 417."""
    world.add("web", answering(b"x"))
    with connected(router.port) as client:
        client.sendall(_ask(router.port, "Expect: wonders"))
        assert b" 417 " in head(client)


BROKEN = {
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_an_answer_that_breaks_off(world, router, name):
    """A client does not take half an answer for a whole one."""
    world.add("web", saying(BROKEN[name]))
    with connected(router.port) as client:
        client.sendall(_ask(router.port))
        got = rest(client)
    assert got.endswith((b"\r\n\r\nhello", b"\r\n5\r\nhello\r\n")), got


def test_an_answer_that_breaks(world, router):
    """Broken chunks are 502 if nothing has been sent on yet, and else the end of the connection."""
    start, broken = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", b"nonsense\r\n"
    world.add("web", saying(start + broken))
    sent = threading.Event()

    def slow(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(start)
        assert sent.wait(10)
        connection.sendall(broken)

    world.add("slow", slow)
    with connected(router.port) as client:
        client.sendall(_ask(router.port) + _ask(router.port, path="/app/slow/"))
        assert b" 502 " in _answer(client)[0]
        assert head(client)
        assert exactly(client, 10) == b"5\r\nhello\r\n"
        sent.set()
        assert rest(client) == b""


def test_kept_connections(world, router):
    """One connection to the app carries a client's requests one after the other, and other clients' too."""
    world.add("web", answering(b"x"))
    for _ in range(2):
        with connected(router.port) as client:
            for _ in range(5):
                client.sendall(_ask(router.port))
                assert _answer(client)[1] == b"x"
    assert world.calls == ["dial web-v1:8000"]
    assert until(lambda: not world.held.total(), 5)


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    ],
)
def test_connections_that_are_not_kept(world, router, first):
    """An app's connection is not used again if it said so, or said more than it was asked for."""

    def talk(connection: socket.socket) -> None:
        head(connection)
        connection.sendall(first)
        rest(connection)

    world.add("web", talk)
    with connected(router.port) as client:
        for _ in range(3):
            client.sendall(_ask(router.port))
            assert _answer(client)[1] == b"x"
    assert len(world.calls) == 3


class Closing:
    """An app that keeps a connection for one answer, and closes it when the next request comes."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def __call__(self, connection: socket.socket) -> None:
        self.asked.append(head(connection).partition(b" ")[0])
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
        if asked := head(connection):
            self.asked.append(asked.partition(b" ")[0] + b" in vain")


def test_a_kept_connection_that_closes(world, router):
    """What can be repeated is, on a new connection, when the app closes the old one under it."""
    world.add("web", app := Closing())
    with connected(router.port) as client:
        for _ in range(3):
            client.sendall(_ask(router.port))
            assert _answer(client)[1] == b"x"
    assert app.asked == [b"GET", b"GET in vain", b"GET", b"GET in vain", b"GET"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_what_must_not_be_repeated(world, router, method):
    """What cannot be repeated goes over a new connection, and to the app once."""
    world.add("web", app := Closing())
    with connected(router.port) as client:
        for _ in range(3):
            client.sendall(_ask(router.port, "Content-Length: 0", method=method))
            assert _answer(client)[1] == b"x"
    assert app.asked == [method.encode()] * 3


def test_no_second_answer(world, router):
    """A request that the app got on a new connection and left without an answer is not sent again."""
    asked = []

    def talk(connection: socket.socket) -> None:
        asked.append(head(connection))

    world.add("web", talk)
    with connected(router.port) as client:
        client.sendall(_ask(router.port))
        assert b" 502 " in head(client)
    assert len(asked) == 1
