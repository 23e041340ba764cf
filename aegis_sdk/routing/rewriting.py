"""Heads as they are sent on: without what concerns one connection only, and with what the router knows better."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import attrs

from aegis_sdk.routing.framing import CHUNKED, EMPTY, UNTIL_CLOSE, Framing
from aegis_sdk.routing.heads import NO_FIELDS, Fields, RequestHead, ResponseHead

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    }
)
_OURS = frozenset({"forwarded", "x-real-ip", "x-aegis-app", "x-aegis-port", "content-length", "host", "http2-settings"})
#: What a trailer cannot change any more, or what would be believed as if a header had said it (RFC 9110, 6.5.1).
_NO_TRAILERS = frozenset(
    {
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "max-forwards",
        "set-cookie",
        "trailer",
    }
)


@attrs.frozen(kw_only=True)
class Origin:
    """Where a request came from: the client's address, and the router's own ``HOST:PORT``."""

    client: str
    here: str


def upgrade(head: RequestHead, framing: Framing) -> str | None:
    """The protocol that a request asks to go on with. Not HTTP/2, which would carry requests that nobody looks at."""
    if "upgrade" not in head.fields.names:
        return None
    wanted = head.fields.words("upgrade")
    if head.minor == 0 or framing is not EMPTY or "upgrade" not in head.fields.words("connection"):
        return None
    return None if any(word.startswith("h2") for word in wanted) else head.fields.get("upgrade")


def to_backend(head: RequestHead, framing: Framing, *, prefix: str, origin: Origin) -> bytes:
    """The request's head as the app gets it: of HTTP/1.1, with the path that is left without *prefix*."""
    host = head.authority or origin.here
    target = head.target[len(prefix) :]
    lines = [
        f"{head.method} {target if target[:1] in ('/', '*') else '/' + target} HTTP/1.1\r\nHost: {host}\r\n",
        *_lines(head.fields, _dropped_from_request),
        f"X-Forwarded-For: {origin.client}\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: {host}\r\n",
    ]
    if prefix:
        lines.append(f"X-Forwarded-Prefix: {prefix}\r\n")
    if head.minor == 0:
        lines = [line for line in lines if not line.lower().startswith("expect:")]
    lines += _connection_of_request(head, framing)
    return _head(lines, head.fields, framing)


def to_client(head: ResponseHead, framing: Framing, *, minor: int, keep: bool) -> bytes:
    """The response's head as a client of HTTP/1.*minor* gets it; *keep* is whether its connection stays."""
    lines = [f"HTTP/1.1 {head.status} {head.reason}\r\n", *_lines(head.fields, _dropped_from_response)]
    if head.status == 101:
        lines.append(f"Connection: upgrade\r\nUpgrade: {head.fields.get('upgrade') or ''}\r\n")
    elif not keep:
        lines.append("Connection: close\r\n")
    elif minor == 0:
        lines.append("Connection: keep-alive\r\n")
    return _head(lines, NO_FIELDS if head.status in (101, 204) else head.fields, framing)


def interim(head: ResponseHead) -> bytes:
    """A response that another one follows, as a client gets it."""
    lines = [f"HTTP/1.1 {head.status} {head.reason}\r\n", *_lines(head.fields, _dropped_from_response)]
    return _head(lines, NO_FIELDS, EMPTY)


def trailers(fields: Fields) -> list[str]:
    """The lines after a body that are passed on: none that would have had to be a header."""
    return list(_lines(fields, _dropped_from_trailers))


def sent_as(framing: Framing, *, minor: int) -> Framing:
    """How a response's body of *framing* is sent to a client of HTTP/1.*minor*: so that it sees where the body ends."""
    if framing.length is not None:
        return framing
    return CHUNKED if minor else UNTIL_CLOSE


def _lines(fields: Fields, dropped: Callable[[str], bool]) -> tuple[str, ...]:
    lines = fields.passed.get(dropped)
    if lines is None:
        named = fields.words("connection")
        lines = tuple(line for name, line in fields.lines if not dropped(name) and name not in named)
        fields.passed[dropped] = lines
    return lines


# Cached, because the same few names come again and again.


@lru_cache(512)
def _dropped_from_request(name: str) -> bool:
    # Servers that make environment variables of headers do not tell _ from -.
    plain = name.replace("_", "-")
    return plain in _OURS or plain in _HOP_BY_HOP or plain.startswith("x-forwarded-")


@lru_cache(512)
def _dropped_from_response(name: str) -> bool:
    return name in _HOP_BY_HOP or name == "content-length"


def _dropped_from_trailers(name: str) -> bool:
    return name in _NO_TRAILERS or _dropped_from_request(name)


def _connection_of_request(head: RequestHead, framing: Framing) -> list[str]:
    if (wanted := upgrade(head, framing)) is not None:
        return [f"Connection: upgrade\r\nUpgrade: {wanted}\r\n"]
    if "trailers" in head.fields.words("te"):
        return ["Connection: TE\r\nTE: trailers\r\n"]
    return []


def _head(lines: list[str], fields: Fields, framing: Framing) -> bytes:
    """*lines*, and last how long the body is, for *fields* say so of an answer to HEAD that has none."""
    if framing.chunked:
        lines.append("Transfer-Encoding: chunked\r\n")
    elif "content-length" in fields.names:
        lines.append(f"Content-Length: {int(fields.all('content-length')[0])}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode("latin-1")
