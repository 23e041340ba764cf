"""A rule about where a guest may connect to: a name, names below one, or addresses; and ports."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

import attrs

from aegis_sdk.arguments import text as _text
from aegis_sdk.errors import InvalidValue

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    Address = IPv4Address | IPv6Address
    Block = IPv4Network | IPv6Network

ANYWHERE = "*"
LAST_PORT = 65_535
_LONGEST = 512
_LONGEST_NAME = 253
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")  # what some resolvers take for (a part of) an address
_BRACKETS = re.compile(r"\[([^\]]*)\](/[0-9]{1,3})?(?::(.*))?", re.DOTALL)
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)
_EXAMPLES = "rules are written as packages.example.org, *.example.net:443, 10.0.0.0/8:5432 or [2001:db8::]/32:8000-8100"


@attrs.frozen
class Rule:
    """A *host*, and the ports from *first* to *last*.

    The host is a name, ``*.NAME`` for all names below one, ``*`` for anywhere, or addresses, which are *block* then.
    """

    host: str
    first: int = 1
    last: int = LAST_PORT
    block: Block | None = attrs.field(default=None, eq=False, repr=False)

    @classmethod
    def of(cls, words: str) -> Self:
        """The rule that *words* say; InvalidValue if they are none."""
        _text("a network rule", words)
        if len(words) > _LONGEST:
            raise InvalidValue(f"a network rule of {len(words)} characters is too long", hint=_EXAMPLES)
        host, ports = _split(words)
        first, last = _ports(words, ports)
        if host == ANYWHERE:
            return cls(host, first, last)
        if (block := _block(words, host)) is not None:
            return cls(_written(block), first, last, block)
        return cls(_pattern(words, host), first, last)

    def names(self, name: str) -> bool:
        """Whether it is about *name*, which is as ``host_name`` writes it."""
        return self.host == name or (self.host.startswith("*.") and name.endswith(self.host[1:]))

    def covers(self, address: Address) -> bool:
        """Whether it is about addresses, and *address* is one of them."""
        return self.block is not None and address in self.block

    def takes(self, port: int) -> bool:
        """Whether it is about *port*."""
        return self.first <= port <= self.last

    @property
    def all_ports(self) -> bool:
        """Whether it is about all ports."""
        return (self.first, self.last) == (1, LAST_PORT)

    def __str__(self) -> str:
        ports = "" if self.all_ports else f":{self.first}"
        if ports and self.last != self.first:
            ports += f"-{self.last}"
        if not ports or ":" not in self.host:
            return self.host + ports
        address, slash, length = self.host.partition("/")
        return f"[{address}]{slash}{length}{ports}"


def host_name(name: str) -> str:
    """*name* as it is compared: in ASCII, lower case, without the dot at its end. InvalidValue if it is none."""
    _text("a host name", name)
    if len(name) > _LONGEST:
        raise InvalidValue(f"a host name of {len(name)} characters is too long")
    found = (name if name.isascii() else _international(name)).lower().removesuffix(".")
    labels = found.split(".")
    if len(found) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise InvalidValue(f"{name!r} cannot be the name of a host")
    if _NUMBER.fullmatch(labels[-1]):
        raise InvalidValue(f"{name!r} is neither a name nor an address", hint="write addresses as 10.0.0.1")
    return found


def _international(name: str) -> str:
    import idna

    try:
        return idna.encode(name, uts46=True).decode()
    except (idna.IDNAError, UnicodeError, IndexError) as error:
        raise InvalidValue(f"{name!r} cannot be the name of a host: {error}") from None


def _split(words: str) -> tuple[str, str | None]:
    """Host and ports of a rule."""
    if "://" in words:
        raise _wrong(words, "it is a URL")
    if found := _BRACKETS.fullmatch(words):
        address, length, ports = found.groups()
        if ":" not in address:
            raise _wrong(words, "only IPv6 addresses are written in brackets")
        return address + (length or ""), ports
    if words.count(":") > 1 or "[" in words:  # an IPv6 address, whose port would have to be behind brackets
        return words, None
    host, colon, ports = words.partition(":")
    return host, ports if colon else None


def _ports(words: str, ports: str | None) -> tuple[int, int]:
    if ports is None:
        return 1, LAST_PORT
    if not (found := _PORTS.fullmatch(ports)):
        raise _wrong(words, f"{ports!r} is neither a port nor a range of ports")
    first, last = int(found[1]), int(found[2] or found[1])
    if not 1 <= first <= last <= LAST_PORT:
        raise _wrong(words, f"ports are from 1 to {LAST_PORT}, the lower one first")
    return first, last


def _block(words: str, host: str) -> Block | None:
    """The addresses that *host* is about; None if it is a name."""
    if ":" not in host and "/" not in host and not _NUMBER.fullmatch(host.lower().rstrip(".").rpartition(".")[2]):
        return None
    from ipaddress import ip_network

    try:
        if "%" in host:
            raise _wrong(words, "an address with a zone means something else on each machine")
        return _unmapped(ip_network(host))
    except InvalidValue:
        raise
    except ValueError as error:
        raise _wrong(words, str(error)) from None


def _unmapped(block: Block) -> Block:
    """The IPv4 addresses that IPv6 ones of the form ``::ffff:10.0.0.1`` are."""
    from ipaddress import IPv4Network, IPv6Network

    if isinstance(block, IPv6Network) and block.prefixlen >= 96 and (v4 := block.network_address.ipv4_mapped):
        return IPv4Network((v4, block.prefixlen - 96))
    return block


def _written(block: Block) -> str:
    return str(block) if block.num_addresses > 1 else str(block.network_address)


def _pattern(words: str, host: str) -> str:
    wildcard, name = ("*.", host[2:]) if host.startswith("*.") else ("", host)
    if "*" in name:
        raise _wrong(words, "a * stands for all that comes before a dot, and only at the beginning")
    try:
        return wildcard + host_name(name)
    except InvalidValue as error:
        raise _wrong(words, error.message) from None


def _wrong(words: str, why: str) -> InvalidValue:
    return InvalidValue(f"{words!r} is not a network rule: {why}", hint=_EXAMPLES)
