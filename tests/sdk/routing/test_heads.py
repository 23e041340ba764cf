"""The heads of messages: what is read, and all that is refused because two readers could differ about it."""

from __future__ import annotations

from contextlib import suppress

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_sdk.routing import framing
from aegis_sdk.routing.framing import CHUNKED, EMPTY, UNTIL_CLOSE, Framing
from aegis_sdk.routing.heads import request_head, response_head
from aegis_sdk.routing.refusals import Refused

HOST = b"Host: localhost:8099\r\n"


def _request(*fields: bytes, first: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join((first, *fields)) + b"\r\n\r\n"


def test_a_request():
    """A head comes out as it went in: method, target, and every field in its place."""
    head = request_head(
        b"GET /a/b?c=%20d HTTP/1.1\r\nHost: LocalHost:8099\r\nX-A:  1 \t\r\nx-a:2\r\nY: caf\xe9\r\n\r\n"
    )
    assert (head.method, head.target, head.path, head.minor) == ("GET", "/a/b?c=%20d", "/a/b", 1)
    assert (head.host, head.authority) == ("localhost", "LocalHost:8099")
    assert list(head.fields) == [("Host", "LocalHost:8099"), ("X-A", "1"), ("x-a", "2"), ("Y", "caf\xe9")]
    assert head.header("X-a") == "1, 2"
    assert head.header("none") is None


def test_values_are_not_shown():
    """A head that is printed shows no values: one of them may be a password."""
    assert "secret" not in repr(request_head(_request(HOST[:-2], b"Authorization: secret")))


REFUSED = {
    "a bare line feed": b"GET / HTTP/1.1\nHost: localhost\r\n\r\n",
    "a bare line feed in fields": _request(b"Host: localhost\nX: y"),
    "a bare carriage return": _request(b"Host: localhost", b"X: a\rY: b"),
    "a NUL": _request(b"Host: localhost", b"X: a\0b"),
    "a control character": _request(b"Host: localhost", b"X: a\x01b"),
    "a folded line": _request(b"Host: localhost", b"X: a", b" b"),
    "a fold first": _request(b" X: a", b"Host: localhost"),
    "a space before the colon": _request(b"Host: localhost", b"Content-Length : 5"),
    "a tab before the colon": _request(b"Host: localhost", b"Transfer-Encoding\t: chunked"),
    "no colon": _request(b"Host: localhost", b"nonsense"),
    "no name": _request(b"Host: localhost", b": value"),
    "a name that is none": _request(b"Host: localhost", b"X(y): z"),
    "a name beyond ASCII": _request(b"Host: localhost", b"X\xe9: z"),
    "no host": _request(b"X: y"),
    "two hosts": _request(b"Host: localhost", b"Host: localhost"),
    "two hosts by case": _request(b"Host: localhost", b"hOST: evil.example"),
    "an empty host": _request(b"Host: "),
    "a host with a path": _request(b"Host: localhost/x"),
    "a host with a user": _request(b"Host: a@localhost"),
    "a host with a space": _request(b"Host: local host"),
    "two hosts in one": _request(b"Host: localhost, evil.example"),
    "no method": _request(HOST[:-2], first=b" / HTTP/1.1"),
    "a method that is none": _request(HOST[:-2], first=b"GE(T / HTTP/1.1"),
    "two spaces": _request(HOST[:-2], first=b"GET  / HTTP/1.1"),
    "a space at the end": _request(HOST[:-2], first=b"GET / HTTP/1.1 "),
    "a tab for a space": _request(HOST[:-2], first=b"GET\t/ HTTP/1.1"),
    "a target with a space": _request(HOST[:-2], first=b"GET /a b HTTP/1.1"),
    "a target beyond ASCII": _request(HOST[:-2], first=b"GET /\xe9 HTTP/1.1"),
    "a fragment": _request(HOST[:-2], first=b"GET /#a HTTP/1.1"),
    "no slash": _request(HOST[:-2], first=b"GET a HTTP/1.1"),
    "a whole address": _request(HOST[:-2], first=b"GET http://localhost/ HTTP/1.1"),
    "an asterisk": _request(HOST[:-2], first=b"GET * HTTP/1.1"),
    "a proxy's request": _request(HOST[:-2], first=b"CONNECT localhost:22 HTTP/1.1"),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\n",
    "no version": _request(HOST[:-2], first=b"GET / http/1.1"),
    "a long version": _request(HOST[:-2], first=b"GET / HTTP/1.10"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "only lines": b"\r\n\r\n",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_request(name):
    """Each of these is refused with 400, and with words."""
    with pytest.raises(Refused) as refused:
        request_head(REFUSED[name])
    assert refused.value.refusal.status == 400
    assert refused.value.refusal.text


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/3", b"HTTP/0.9", b"HTTP/1.2"])
def test_other_versions(version):
    """A version that is not spoken is refused as such."""
    with pytest.raises(Refused) as refused:
        request_head(_request(HOST[:-2], first=b"GET / " + version))
    assert refused.value.refusal.status == 505


def test_too_many_fields():
    """As many fields as are allowed pass, and one more is refused with 431."""
    fields = [b"X%d: y" % number for number in range(99)]
    assert len(list(request_head(_request(b"Host: localhost", *fields)).fields)) == 100
    with pytest.raises(Refused) as refused:
        request_head(_request(b"Host: localhost", *fields, b"Z: z"))
    assert refused.value.refusal.status == 431


def test_http_1_0_needs_no_host():
    """A client of HTTP/1.0 may name no host."""
    head = request_head(b"GET / HTTP/1.0\r\n\r\n")
    assert (head.minor, head.host, head.authority) == (0, "", "")


@pytest.mark.parametrize(
    ("authority", "host"),
    [(b"localhost", "localhost"), (b"127.0.0.1:80", "127.0.0.1"), (b"[::1]:8099", "[::1]"), (b"A.B.:1", "a.b.")],
)
def test_hosts(authority, host):
    """A host is named with or without a port, by name or address."""
    assert request_head(_request(b"Host: " + authority)).host == host


def test_any_server():
    """OPTIONS may ask about the server itself."""
    assert request_head(_request(HOST[:-2], first=b"OPTIONS * HTTP/1.1")).target == "*"


LENGTHS: dict[str, tuple[tuple[bytes, ...], Framing | None]] = {
    "nothing": ((), EMPTY),
    "a length": ((b"Content-Length: 5",), Framing(5)),
    "zero": ((b"Content-Length: 0",), EMPTY),
    "chunks": ((b"Transfer-Encoding: Chunked",), CHUNKED),
    "both": ((b"Content-Length: 5", b"Transfer-Encoding: chunked"), None),
    "both, the other way": ((b"Transfer-Encoding: chunked", b"Content-Length: 5"), None),
    "two lengths": ((b"Content-Length: 5", b"Content-Length: 6"), None),
    "the same twice": ((b"Content-Length: 5", b"Content-Length: 5"), None),
    "a list": ((b"Content-Length: 5, 5",), None),
    "a sign": ((b"Content-Length: +5",), None),
    "less than nothing": ((b"Content-Length: -5",), None),
    "hexadecimal": ((b"Content-Length: 0x5",), None),
    "a fraction": ((b"Content-Length: 5.0",), None),
    "an underscore": ((b"Content-Length: 1_0",), None),
    "no number": ((b"Content-Length: ",), None),
    "other digits": (("Content-Length: \u00b2".encode("latin-1"),), None),
    "too large": ((b"Content-Length: 9999999999999999999",), None),
    "identity last": ((b"Transfer-Encoding: chunked, identity",), None),
    "identity": ((b"Transfer-Encoding: identity",), None),
    "two codings": ((b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), None),
    "chunked twice": ((b"Transfer-Encoding: chunked, chunked",), None),
    "gzip": ((b"Transfer-Encoding: gzip, chunked",), None),
    "junk after it": ((b"Transfer-Encoding: chunked;q=1",), None),
    "a form feed": ((b"Transfer-Encoding: \xa0chunked",), None),
    "an empty coding": ((b"Transfer-Encoding: ",), None),
    "quoted": ((b'Transfer-Encoding: "chunked"',), None),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_how_long_a_request_is(name):
    """A body's length is said in one way, or the request is refused with 400."""
    fields, expected = LENGTHS[name]
    head = request_head(_request(b"Host: localhost", *fields))
    if expected is not None:
        assert framing.of_request(head) == expected
        return
    with pytest.raises(Refused) as refused:
        framing.of_request(head)
    assert refused.value.refusal.status == 400


def test_http_1_0_has_no_chunks():
    """Who reads HTTP/1.0 does not know chunks, so they are refused there."""
    head = request_head(_request(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0"))
    with pytest.raises(Refused) as refused:
        framing.of_request(head)
    assert refused.value.refusal.status == 400


ANSWERS: dict[str, tuple[bytes, str, Framing | None]] = {
    "a length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", Framing(5)),
    "to HEAD": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", EMPTY),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", CHUNKED),
    "chunks to HEAD": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", EMPTY),
    "until it closes": (b"HTTP/1.0 200\r\n\r\n", "GET", UNTIL_CLOSE),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", EMPTY),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "GET", EMPTY),
    "both": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", None),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", "GET", None),
    "a sign": (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", "GET", None),
    "gzip": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "GET", None),
    "chunks of HTTP/1.0": (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", None),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_how_long_an_answer_is(name):
    """The length of an answer's body follows from its head and from what was asked, or it is refused with 502."""
    raw, method, expected = ANSWERS[name]
    head = response_head(raw)
    if expected is not None:
        assert framing.of_response(head, method=method) == expected
        return
    with pytest.raises(Refused) as refused:
        framing.of_response(head, method=method)
    assert refused.value.refusal.status == 502


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 0200 OK\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + 101 * b"X: y\r\n" + b"\r\n",
    ],
)
def test_what_is_no_answer(raw):
    """An app that does not speak HTTP/1.1 is told from one that does: 502."""
    with pytest.raises(Refused) as refused:
        response_head(raw)
    assert refused.value.refusal.status == 502


_NAMES = st.sampled_from(["Host", "Content-Length", "Transfer-Encoding", "X-A", "Connection", " X", "X ", "X\t", ""])
_VALUES = st.sampled_from(
    ["localhost", "5", "+5", "5, 5", "chunked", "chunked, identity", "a\tb", "x\0", "a\nb", "\xe9", ""]
)
_FIRST = st.sampled_from(
    ["GET / HTTP/1.1", "POST /a?b HTTP/1.0", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", "G@T / HTTP/1.1"]
)


@given(_FIRST, st.lists(st.tuples(_NAMES, _VALUES), max_size=5))
def test_whoever_reads_it_after_us_agrees(first, fields):
    """What is accepted here, another careful reader accepts too, and sees the same fields and the same body."""
    lines = [first, *(f"{name}: {value}" for name, value in fields)]
    raw = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    try:
        head = request_head(raw)
        found = framing.of_request(head)
    except Refused:
        return
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(raw)
    event = reader.next_event()
    assert isinstance(event, h11.Request)
    assert event.target.decode() == head.target
    assert [(name.lower(), value) for name, value in head.fields] == [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers
    ]
    after = reader.next_event()
    assert isinstance(after, h11.EndOfMessage) == (found is EMPTY)


@given(st.binary(max_size=200))
def test_noise(raw):
    """Whatever bytes come, they are a head or are refused."""
    for read in (request_head, response_head):
        with suppress(Refused):
            assert read(raw + b"\r\n\r\n").fields
