"""What a guest's harness asks, and the line that it is answered by; every byte of a question is hostile."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from ipaddress import ip_address

import attrs

from aegis_sdk.network.addresses import Address

LONGEST = 4096


class Nonsense(Exception):  # as those in errors.py
    """A guest has asked what cannot be understood."""


@attrs.frozen
class Outgoing:
    """A connection to there is wanted; the stream becomes it."""

    address: Address
    port: int


@attrs.frozen
class Resolve:
    """The addresses of a name are wanted."""

    name: str


CONNECTED = b'{"connected": true}\n'


def parse(line: bytes) -> Outgoing | Resolve:
    """What is asked; Nonsense."""
    try:
        words = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Nonsense("it is not JSON") from error
    match words:
        case {"call": "outgoing", "address": str(address), "port": int(port), **rest} if not rest:
            return _outgoing(address, port)
        case {"call": "resolve", "name": str(name), **rest} if not rest:
            return Resolve(name)
    raise Nonsense("it is no question that there is")


def _outgoing(address: str, port: int) -> Outgoing:
    if isinstance(port, bool) or not 1 <= port <= 65_535 or "%" in address:
        raise Nonsense("it is no address and port")
    try:
        return Outgoing(ip_address(address), port)
    except ValueError as error:
        raise Nonsense("it is no address") from error


def failed(message: str, number: int) -> bytes:
    """That there is no connection, and why, as connect(2) says it."""
    return _line({"error": message[:500], "errno": errno.errorcode.get(number, "EIO")})


def addresses(found: Iterable[Address], *, seconds: int) -> bytes:
    """What a name leads to, for so many seconds."""
    return _line({"addresses": [str(address) for address in found], "seconds": seconds})


def unresolved(message: str, *, unknown: bool) -> bytes:
    """That a name has no address: because it is *unknown*, or because that could not be found out."""
    return _line({"error": message[:500], "unknown": unknown})


def _line(words: dict[str, object]) -> bytes:
    return json.dumps(words).encode() + b"\n"
