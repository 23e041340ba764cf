"""The heads of HTTP/1.1 messages, read strictly: what two readers could take for different things is refused.

Pure code: bytes in, values or ``Refused`` out. Text is Latin-1 throughout, so that every byte comes out as it went in.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import NamedTuple, NoReturn

from aegis_sdk.routing.refusals import Refused, bad_gateway, bad_request

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Every field ends in one of the head's line feeds and holds none, so as many matches as line feeds are the whole head.
_FIELDS = re.compile(rf"^(({_NAME}):[^\x00-\x08\x0a-\x1f\x7f]*\r\n)", re.MULTILINE)
_REQUEST_LINE = re.compile(rf"({_NAME}) ([!-~]+) HTTP/1\.([01])\r\n")
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t -~\x80-\xff]*))?\r\n")
_VERSION = re.compile(r" HTTP/[0-9](\.[0-9])?$")
_BARE = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\0")
_HOST = re.compile(r"(?:[0-9A-Za-z._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_MOST_FIELDS = 100
#: How long fields may be that are remembered, and how many heads' are: a client says the same again with each request.
_REMEMBERED, _HEADS = 4 << 10, 128


class Fields:
    """A message's header fields in their order; names are looked up in lower case."""

    __slots__ = ("_several", "lines", "names", "passed")

    def __init__(self, found: list[tuple[str, str]]) -> None:
        """*found* are lines as they came, each with the name that it begins with."""
        #: The names that there are, in lower case, each with its last line.
        self.names = {name.lower(): line for line, name in found}
        #: Each line with its name in lower case, and its end.
        self.lines: Collection[tuple[str, str]] = self.names.items()
        #: What was made of them to be passed on, by what was left out; whoever makes it keeps it here.
        self.passed: dict[object, tuple[str, ...]] = {}
        self._several = len(self.names) < len(found)
        if self._several:
            self.lines = [(name.lower(), line) for line, name in found]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((line[: len(name)], _value(line, name)) for name, line in self.lines)

    def __repr__(self) -> str:
        return f"Fields({[name for name, _ in self.lines]})"  # values may be secrets

    def all(self, name: str) -> list[str]:
        """Every value of *name*, in their order."""
        if name not in self.names:
            return []
        if not self._several:
            return [_value(self.names[name], name)]
        return [_value(line, name) for other, line in self.lines if other == name]

    def get(self, name: str) -> str | None:
        """The value of *name*, several joined by commas, as HTTP has it; None if there is none."""
        line = self.names.get(name)
        if line is None:
            return None
        return ", ".join(self.all(name)) if self._several else _value(line, name)

    def words(self, name: str) -> tuple[str, ...]:
        """What *name* lists, in lower case."""
        listed = self.get(name)
        return _words(listed) if listed is not None else ()


NO_FIELDS = Fields([])


@lru_cache(256)
def _words(listed: str) -> tuple[str, ...]:
    return tuple(word.strip(" \t").lower() for word in listed.split(","))


def _value(line: str, name: str) -> str:
    return line[len(name) + 1 :].strip(" \t\r\n")


# Named tuples, because one is made for every message, and in a third of the time that a frozen attrs class takes.


class RequestHead(NamedTuple):
    """A request without its body. *target* is as it was sent: a path that begins with a slash, and maybe a query.

    *host* is what ``Host`` names, in lower case and without the port; empty if an HTTP/1.0 client named none.
    """

    method: str
    target: str
    minor: int  # of the version, HTTP/1.0 or HTTP/1.1
    fields: Fields
    host: str = ""
    authority: str = ""  # ``Host`` as it is

    @property
    def path(self) -> str:
        """The target without its query, not decoded."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """The value of a header, whatever the case of its name, several joined by commas; None if there is none."""
        return self.fields.get(name.lower())


class ResponseHead(NamedTuple):
    """A response without its body."""

    status: int
    reason: str
    minor: int
    fields: Fields


def request_head(raw: bytes, *, fields: int = _MOST_FIELDS) -> RequestHead:
    """The request head that *raw* is, up to and with its empty line; Refused, mostly with 400, if it is none."""
    text = raw.decode("latin-1")
    match = _REQUEST_LINE.match(text)
    if match is None:
        _refuse_line(text.partition("\r\n")[0])
    method, target, minor = match.groups()
    found = _fields(text, match.end(), most=fields)
    if found is None:
        raise bad_request(_fault(text[match.end() : -2]))
    _check_target(method, target)
    host = _host(found, minor=minor)
    return RequestHead(
        method=method, target=target, minor=int(minor), fields=found, host=_host_name(host), authority=host
    )


def response_head(raw: bytes, *, fields: int = _MOST_FIELDS) -> ResponseHead:
    """The response head that *raw* is, up to and with its empty line; Refused with 502 if it is none."""
    text = raw.decode("latin-1")
    match = _STATUS_LINE.match(text)
    if match is None:
        raise bad_gateway(f"its answer begins with {text[:80]!r}, which is no HTTP/1.1")
    minor, status, reason = match.groups()
    try:
        found = _fields(text, match.end(), most=fields)
    except Refused as refused:
        raise bad_gateway(f"its answer has too many header fields: {refused}") from refused
    if found is None:
        raise bad_gateway(f"its answer's head is broken: {_fault(text[match.end() : -2])}")
    return ResponseHead(status=int(status), reason=reason or "", minor=int(minor), fields=found)


def bare(unfinished: bytes, *, start: int = 0) -> bool:
    """Whether a head's beginning has, from *start*, what is in no head: a line feed or return alone, or a NUL."""
    return _BARE.search(unfinished, max(0, start)) is not None


def trailer_fields(raw: bytes) -> Fields | None:
    """The fields that *raw*, lines with their ends and an empty one, is; None if it is anything else, or more."""
    try:
        return _fields(raw.decode("latin-1"), 0, most=_MOST_FIELDS)
    except Refused:
        return None


def _fields(text: str, start: int, *, most: int) -> Fields | None:
    """The fields from *start* to the empty line that ends *text*."""
    left = text[start:]
    return _remembered(left, most) if len(left) <= _REMEMBERED else _read(left, most)


def _read(text: str, most: int) -> Fields | None:
    lines = text.count("\n") - 1
    if lines > most:
        raise Refused(431, f"there are {lines} header fields, and {most} are allowed")
    found = _FIELDS.findall(text)
    return Fields(found) if len(found) == lines else None


_remembered = lru_cache(_HEADS)(_read)


def _fault(text: str) -> str:
    """What is wrong with header fields that are none."""
    if "\0" in text:
        return "there is a NUL in a header"
    if bare(text.encode("latin-1")):
        return "lines of a header must end in a carriage return and a line feed, and hold neither alone"
    for line in text.split("\r\n"):
        name, colon, _ = line.partition(":")
        if line.startswith((" ", "\t")):
            return "header fields must not be continued on another line"
        if name.endswith((" ", "\t")):
            return f"there is white space before the colon of the header {name.strip()[:80]!r}"
        if line and (not colon or not re.fullmatch(_NAME, name)):
            return f"{line[:80]!r} is no header field"
    return "there is a control character in a header"


def _refuse_line(line: str) -> NoReturn:
    if line.startswith("PRI * HTTP/2"):
        raise bad_request("HTTP/2 is not spoken here; use HTTP/1.1")
    words = line.split(" ")
    if _VERSION.search(line) and not line.endswith((" HTTP/1.0", " HTTP/1.1")) and len(words) == 3:
        raise Refused(505, f"{words[2][:20]} is not spoken here; use HTTP/1.1")
    raise bad_request(f"{line[:80]!r} is no request line of HTTP/1.1")


def _check_target(method: str, target: str) -> None:
    if method == "CONNECT":
        raise bad_request("this is no proxy for other servers: CONNECT is refused")
    if target.startswith("/"):
        if "#" in target:
            raise bad_request("a request's target has no fragment: there must be no # in it")
    elif target != "*" or method != "OPTIONS":
        raise bad_request(f"the target {target[:80]!r} is no path: it must begin with a slash")


def _host(fields: Fields, *, minor: str) -> str:
    values = fields.all("host")
    if len(values) > 1:
        raise bad_request("there is more than one Host header")
    if not values:
        if minor == "1":
            raise bad_request("there is no Host header")
        return ""
    if not values[0]:
        raise bad_request("the Host header is empty")
    return values[0]


@lru_cache(256)
def _host_name(authority: str) -> str:
    if authority and not _HOST.fullmatch(authority):
        raise bad_request(f"the Host header {authority[:80]!r} names no host")
    if authority.startswith("["):
        return authority[: authority.index("]") + 1].lower()
    return authority.partition(":")[0].lower()
