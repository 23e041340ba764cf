"""Heads as they come over a connection: as many bytes, and as much time, as the limits give."""

from __future__ import annotations

import re
from time import monotonic

from aegis_sdk.routing.heads import RequestHead, ResponseHead, bare, request_head, response_head
from aegis_sdk.routing.limits import Limits
from aegis_sdk.routing.refusals import Refused, bad_gateway, bad_request
from aegis_sdk.routing.stream import Gone, Silent, Stream

_END = b"\r\n\r\n"
_LOOSE_END = re.compile(rb"\n\r?\n")
_LOOSE = re.compile(rb"(?<!\r)\n")


async def read_request(client: Stream, limits: Limits) -> RequestHead | None:
    """The next request's head; None if none comes: the client has gone, or asks nothing for too long."""
    try:
        if not client.waiting and not await client.more(by=monotonic() + limits.first_byte):
            return None
    except Silent:
        return None
    raw = client.cut(_END, 0) or await _whole(client, limits)
    if len(raw) > limits.head:
        raise _too_large(raw, limits)
    # An empty line before a request was once common, and is to be forgiven (RFC 9112, 2.2).
    head = request_head(raw.removeprefix(b"\r\n"), fields=limits.fields)
    if len(head.target) > limits.target:
        raise _too_long(limits)
    return head


async def _whole(client: Stream, limits: Limits) -> bytes:
    due = monotonic() + limits.whole_head
    seen = 0
    while (raw := client.cut(_END, max(0, seen - 3))) is None:
        begun = client.waiting
        if bare(begun, start=seen - 1):
            raise bad_request("lines of a head must end in a carriage return and a line feed, and hold no NUL")
        seen = len(begun)
        if seen > limits.head:
            raise _too_large(begun, limits)
        try:
            came = await client.more(by=due)
        except Silent as silent:
            raise Refused(408, f"the head did not come within {limits.whole_head:g} s") from silent
        if not came:
            raise Gone("the client left within a head")
    return raw


async def read_response(backend: Stream, limits: Limits, *, due: float) -> ResponseHead:
    """The next response's head; Gone if the app closes before its first byte, Refused if it is late or broken."""
    seen = 0
    while (raw := _cut(backend, max(0, seen - 3))) is None:
        seen = len(backend.waiting)
        if seen > limits.head:
            break
        try:
            came = await backend.more(by=due)
        except Silent as silent:
            raise Refused(504, f"the app has not answered within {limits.answer:g} s") from silent
        if not came and not seen:
            raise Gone("the app closed the connection")
        if not came:
            raise bad_gateway(f"it closed the connection within its answer's head, after {seen} bytes")
    if raw is None or len(raw) > limits.head:
        raise bad_gateway(f"its answer's head is larger than {limits.head} bytes")
    return response_head(raw, fields=limits.fields)


def _cut(backend: Stream, start: int) -> bytes | None:
    """A response's head, if it has come. Its lines may end in a line feed alone, as many a CGI program has it.

    That is no matter of trust as with requests: nobody reads it after us, and the client gets one that is made anew.
    """
    raw = backend.cut(_END, start)
    if raw is not None:
        if raw.count(b"\n") == raw.count(b"\r\n"):
            return raw
        backend.give_back(raw)
    if not (end := _LOOSE_END.search(backend.waiting, start)):
        return None
    loose = backend.cut(end[0], end.start())
    return loose and _LOOSE.sub(b"\r\n", loose)


def _too_large(begun: bytes, limits: Limits) -> Refused:
    if b"\r\n" not in begun[: limits.target]:
        return _too_long(limits)
    return Refused(431, f"the head is larger than {limits.head} bytes")


def _too_long(limits: Limits) -> Refused:
    return Refused(414, f"the target is longer than {limits.target} bytes")
