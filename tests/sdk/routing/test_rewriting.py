"""Heads as they are sent on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_sdk.routing import rewriting
from aegis_sdk.routing.framing import CHUNKED, EMPTY, UNTIL_CLOSE, Framing, of_request, of_response
from aegis_sdk.routing.heads import Fields, RequestHead, request_head, response_head
from aegis_sdk.routing.rewriting import Origin

ORIGIN = Origin(client="127.0.0.9", here="localhost:8099")


def _sent(*fields: str, first: str = "GET /app/web/a?b HTTP/1.1", prefix: str = "") -> RequestHead:
    """What an app gets of a request."""
    raw = "\r\n".join([first, "Host: web.localhost:8099", *fields]) + "\r\n\r\n"
    head = request_head(raw.encode("latin-1"))
    return request_head(rewriting.to_backend(head, of_request(head), prefix=prefix, origin=ORIGIN))


def _fields(*pairs: tuple[str, str]) -> Fields:
    return Fields([(f"{name}: {value}\r\n", name) for name, value in pairs])


def _answered(raw: str, *, method: str = "GET", minor: int = 1, keep: bool = True) -> str:
    """What a client gets of an answer."""
    head = response_head(raw.encode("latin-1"))
    framing = rewriting.sent_as(of_response(head, method=method), minor=minor)
    return rewriting.to_client(head, framing, minor=minor, keep=keep).decode("latin-1")


def test_what_an_app_is_told():
    """Host stays, the client's address and the prefix are added, and the prefix is taken from the path."""
    sent = _sent("X-A: b", prefix="/app/web")
    assert sent.target == "/a?b"
    assert list(sent.fields) == [
        ("Host", "web.localhost:8099"),
        ("X-A", "b"),
        ("X-Forwarded-For", "127.0.0.9"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "web.localhost:8099"),
        ("X-Forwarded-Prefix", "/app/web"),
    ]


@pytest.mark.parametrize(
    ("target", "prefix", "sent"),
    [
        ("/app/web/", "/app/web", "/"),
        ("/app/web/?x", "/app/web", "/?x"),
        ("/app/web?x", "/app/web", "/?x"),
        ("/app/web", "/app/web", "/"),
        ("/app/web/../../x", "/app/web", "/../../x"),
        ("/app/web//evil.example/", "/app/web", "//evil.example/"),
        ("/%2e%2e/", "", "/%2e%2e/"),
    ],
)
def test_paths(target, prefix, sent):
    """Nothing of a path but the prefix is touched, and there is always one."""
    assert _sent(first=f"POST {target} HTTP/1.1", prefix=prefix).target == sent


@pytest.mark.parametrize(
    "name",
    [
        *("Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "TE", "HTTP2-Settings"),
        *("X-Aegis-App", "X-Aegis-Port", "Forwarded", "X-Real-IP", "X-Forwarded-Port", "X_Forwarded_User"),
        *("Transfer_Encoding", "Content_Length", "X-Forwarded_Whatever", "x_aegis_app"),
    ],
)
def test_what_does_not_pass(name):
    """What concerns this connection, what is for the router, and what only the router knows, is not passed on."""
    assert name.lower() not in _sent(f"{name}: 1").fields.names


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X_Forwarded_For"])
def test_what_is_not_believed(name):
    """What a client says of where it came from is not what the app is told."""
    sent = _sent(f"{name}: evil")
    assert "evil" not in ", ".join(value for _, value in sent.fields)


def test_what_a_client_names_itself():
    """What Connection names goes no further, but can take nothing away that the router sets."""
    sent = _sent("Connection: X-A, close, X-Forwarded-For, Host", "X-A: b", "X-B: c")
    assert "x-a" not in sent.fields.names
    assert sent.header("X-B") == "c"
    assert sent.header("X-Forwarded-For") == "127.0.0.9"
    assert sent.host == "web.localhost"


def test_framing_is_made_anew():
    """However a client frames its body, the app gets one plain statement of it."""
    chunked = _sent("transfer-encoding:CHUNKED", first="POST / HTTP/1.1")
    assert chunked.fields.all("transfer-encoding") == ["chunked"]
    sized = _sent("content-length:  007", first="POST / HTTP/1.1")
    assert sized.fields.all("content-length") == ["7"]
    assert _sent("Content-Length: 0", first="POST / HTTP/1.1").fields.all("content-length") == ["0"]
    assert not {"content-length", "transfer-encoding"} & {name for name, _ in _sent().fields.lines}
    named = _sent("Connection: Content-Length", "Content-Length: 3", first="POST / HTTP/1.1")
    assert named.fields.all("content-length") == ["3"]


def test_upgrades():
    """A WebSocket is asked for; HTTP/2, which nobody would look into, is not, nor anything with a body or HTTP/1.0."""
    sent = _sent("Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x")
    assert (sent.header("connection"), sent.header("upgrade")) == ("upgrade", "websocket")
    assert sent.header("sec-websocket-key") == "x"
    for fields in (
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x"),
        ("Connection: Upgrade", "Upgrade: websocket, h2c"),
        ("Upgrade: websocket",),
        ("Connection: Upgrade", "Upgrade: websocket", "Content-Length: 3"),
    ):
        assert not {"upgrade", "connection", "http2-settings"} & {name for name, _ in _sent(*fields).fields.lines}
    old = _sent("Connection: Upgrade", "Upgrade: websocket", first="GET / HTTP/1.0")
    assert "upgrade" not in old.fields.names


def test_trailers_are_asked_for():
    """A client that takes fields after a body is passed on as one."""
    sent = _sent("TE: trailers, deflate;q=0.5")
    assert (sent.header("te"), sent.header("connection")) == ("trailers", "TE")


def test_an_old_client():
    """An app gets HTTP/1.1, with a host, from HTTP/1.0 too; and no expectation that could not be met."""
    head = request_head(b"GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n")
    sent = request_head(rewriting.to_backend(head, EMPTY, prefix="", origin=ORIGIN))
    assert (sent.minor, sent.authority) == (1, "localhost:8099")
    assert "expect" not in sent.fields.names


def test_an_answer():
    """An answer's fields pass, in their order, but for those of the app's connection."""
    raw = "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nConnection: close, X-A\r\nX-A: 1\r\nKeep-Alive: 5\r\nSet-Cookie: b\r\n"
    got = _answered(raw + "Content-Length: 03\r\n\r\n")
    assert got == "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 3\r\n\r\n"


def test_bodies_without_a_length():
    """A client of HTTP/1.1 gets chunks, and sees where they end; one of HTTP/1.0 a connection that closes."""
    for framed in ("Transfer-Encoding: chunked\r\n", ""):
        raw = f"HTTP/1.1 200 OK\r\n{framed}\r\n"
        assert _answered(raw) == "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert _answered(raw, minor=0, keep=False) == "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


def test_answers_without_a_body():
    """Such an answer has the length of the body that it does not have, if the app said one, and no other."""
    sized, chunked = (
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    )
    assert _answered(sized, method="HEAD") == sized
    assert _answered(chunked, method="HEAD") == "HTTP/1.1 200 OK\r\n\r\n"
    assert _answered("HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n") == "HTTP/1.1 304 \r\nContent-Length: 9\r\n\r\n"
    assert _answered("HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n") == "HTTP/1.1 204 \r\n\r\n"


def test_whether_a_connection_stays():
    """A client is told what it would not assume: of HTTP/1.1 that it closes, of HTTP/1.0 that it stays."""
    raw = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert "Connection" not in _answered(raw)
    assert "Connection: close\r\n" in _answered(raw, keep=False)
    assert "Connection: keep-alive\r\n" in _answered(raw, minor=0)
    assert "Connection: close\r\n" in _answered(raw, minor=0, keep=False)


def test_trailers():
    """Of the fields after a body pass those that no header could be mistaken for."""
    fields = _fields(("X-Sum", "1"), ("Host", "x"), ("Content-Length", "5"), ("transfer_encoding", "chunked"))
    assert rewriting.trailers(fields) == ["X-Sum: 1\r\n"]
    fields = _fields(("Set-Cookie", "x"), ("Authorization", "x"), ("X-Forwarded-For", "x"), ("Grpc-Status", "0"))
    assert rewriting.trailers(fields) == ["Grpc-Status: 0\r\n"]


def test_a_switch():
    """The answer that begins a tunnel says so, and has no length."""
    raw = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\n"
    got = rewriting.to_client(response_head(raw), EMPTY, minor=1, keep=False)
    assert got == b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


_NAME = st.text("ABCxyz-_", min_size=1, max_size=8)
_VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)


@given(st.lists(st.tuples(_NAME, _VALUE), max_size=8), st.sampled_from([EMPTY, CHUNKED, UNTIL_CLOSE, Framing(5)]))
def test_what_is_written_can_be_read(fields, framing):
    """Whatever fields come, what is sent on is a head that we would accept ourselves."""
    raw = "".join(
        ["GET / HTTP/1.1\r\nHost: localhost\r\n", *(f"{name}: {value}\r\n" for name, value in fields), "\r\n"]
    )
    head = request_head(raw.encode("latin-1"))
    sent = request_head(rewriting.to_backend(head, framing, prefix="", origin=ORIGIN))
    of_request(sent)
    kept = [(name, value) for name, value in sent.fields if not name.startswith("X-Forwarded-")]
    assert [pair for pair in kept if pair in fields] == [pair for pair in fields if pair in kept]
