"""The proxies of this machine's user, by the variables that say them to every program."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

import attrs

from aegis_sdk.network.addresses import Address

_PORTS = {"http": 80, "socks5": 1080, "socks5h": 1080}


class ProxyInvalid(Exception):  # as those in errors.py
    """A variable says a proxy that cannot be used."""


@attrs.frozen
class Proxy:
    """What is asked to connect: by CONNECT of HTTP, or by SOCKS 5."""

    host: str
    port: int
    socks: bool = False
    user: str | None = attrs.field(default=None, repr=False)
    password: str = attrs.field(default="", repr=False)

    def connect_request(self, address: Address, port: int) -> bytes:
        """What is said to a proxy of HTTP to have it connect there."""
        where = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
        if self.user is not None:
            word = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            lines.append(f"Proxy-Authorization: Basic {word}")
        return "\r\n".join([*lines, "", ""]).encode()


def proxy_for(environ: Mapping[str, str], address: Address, port: int, names: Collection[str]) -> Proxy | None:
    """The proxy for a connection there, which is known by *names*; None if it goes straight. ProxyInvalid."""
    scheme = "http" if port == 80 else "https"
    url = _said(environ, f"{scheme}_proxy") or _said(environ, "all_proxy")
    if not url or _spared(_said(environ, "no_proxy"), address, port, names):
        return None
    return parse(url)


def parse(url: str) -> Proxy:
    """The proxy that *url* says; ProxyInvalid, which does not show it, since there may be a password in it."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
    except ValueError:
        raise ProxyInvalid("a proxy's URL cannot be read") from None
    try:
        port = parts.port or _PORTS[parts.scheme]
    except (KeyError, ValueError) as error:
        raise ProxyInvalid(f"proxies are http:// or socks5://HOST:PORT, not {parts.scheme}://") from error
    if not parts.hostname:
        raise ProxyInvalid("a proxy has no host")
    user = None if parts.username is None else unquote(parts.username)
    return Proxy(parts.hostname, port, parts.scheme != "http", user, unquote(parts.password or ""))


def _said(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.upper()) or "").strip()


def _spared(words: str, address: Address, port: int, names: Collection[str]) -> bool:
    """Whether NO_PROXY has the address, a block that it is in, or a name, or what is above one."""
    return any(_spares(word, address, port, names) for word in _words(words))


def _words(words: str) -> Iterator[str]:
    return filter(None, (word.strip().lower() for word in words.replace(" ", ",").split(",")))


def _spares(word: str, address: Address, port: int, names: Collection[str]) -> bool:
    if word == "*":
        return True
    with suppress(ValueError):
        return address in ip_network(word.strip("[]"), strict=False)
    host, colon, number = word.rpartition(":")
    if colon and number.isdigit():
        if int(number) != port:
            return False
        with suppress(ValueError):
            return address == ip_address(host.strip("[]"))
        word = host
    below = "." + word.removeprefix("*").lstrip(".")
    return any(f".{name}".endswith(below) for name in names)
