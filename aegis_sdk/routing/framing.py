"""How long a message's body is: the one thing on which everybody between two ends must agree."""

from __future__ import annotations

import re
from typing import NamedTuple

from aegis_sdk.routing.heads import RequestHead, ResponseHead
from aegis_sdk.routing.refusals import bad_gateway, bad_request

_LENGTH = re.compile(r"[0-9]{1,18}")


class Framing(NamedTuple):
    """*length* bytes; or, if that is None, chunks; or whatever comes until the connection ends."""

    length: int | None = None
    chunked: bool = False


EMPTY = Framing(0)
CHUNKED = Framing(chunked=True)
UNTIL_CLOSE = Framing()


def of_request(head: RequestHead) -> Framing:
    """The framing of a request's body; Refused with 400 where it is not said in one way only."""
    fields = head.fields
    if "content-length" not in fields.names and "transfer-encoding" not in fields.names:
        return EMPTY
    lengths, codings = fields.all("content-length"), fields.all("transfer-encoding")
    if lengths and codings:
        raise bad_request("there is both a Content-Length and a Transfer-Encoding")
    if codings:
        if head.minor == 0:
            raise bad_request("HTTP/1.0 has no Transfer-Encoding")
        if len(codings) > 1 or codings[0].lower() != "chunked":
            raise bad_request(f"the Transfer-Encoding must be chunked alone, not {', '.join(codings)[:80]!r}")
        return CHUNKED
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise bad_request(f"the Content-Length must be one number, not {', '.join(lengths)[:80]!r}")
    return Framing(int(lengths[0])) if int(lengths[0]) else EMPTY


def of_response(head: ResponseHead, *, method: str) -> Framing:
    """The framing of the body of a response to a request of *method*; Refused with 502 where it is not clear."""
    lengths, codings = head.fields.all("content-length"), head.fields.all("transfer-encoding")
    if lengths and codings:
        raise bad_gateway("its answer has both a Content-Length and a Transfer-Encoding")
    if lengths and (len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0])):
        raise bad_gateway(f"the Content-Length of its answer is {', '.join(lengths)[:80]!r}")
    if codings and (len(codings) > 1 or codings[0].lower() != "chunked" or head.minor == 0):
        raise bad_gateway(f"the Transfer-Encoding of its answer is {', '.join(codings)[:80]!r}")
    if method == "HEAD" or head.status in (204, 304) or head.status < 200:
        return EMPTY
    if codings:
        return CHUNKED
    if not lengths:
        return UNTIL_CLOSE
    return Framing(int(lengths[0])) if int(lengths[0]) else EMPTY
