"""Who may ask at all: no web page that a browser was tricked into believing is of this machine.

A page of another site can have a browser send requests here, but not choose their ``Host`` (it is the page's own name
if that was made to resolve to this machine) nor hide their ``Origin``.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache

import attrs

from aegis_sdk.routing.heads import RequestHead
from aegis_sdk.routing.refusals import Refuse

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_ORIGIN = re.compile(r"https?://([^/:\[\]]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")


@attrs.frozen(kw_only=True)
class Admission:
    """The names that this router answers to: those of the loopback with its *port*, and *names*, ``NAME[:PORT]``."""

    port: int
    names: frozenset[str] = frozenset()

    def refusal(self, head: RequestHead) -> Refuse | None:
        """Why *head* is not admitted; None if it is. A client that names no host, as in HTTP/1.0, is no browser."""
        if head.host and not self._ours(head.host, _port(head.authority)):
            return Refuse(421, f"{head.authority} is not a name of this router: {self._answers_to()}")
        if "origin" not in head.fields.names:
            return None
        origin = head.fields.get("origin") or ""
        if head.method in _SAFE and "upgrade" not in head.fields.names:
            return None
        match = _ORIGIN.fullmatch(origin.lower())
        # Any port of this machine: a page of the developer's own server may well use an app.
        if match and (_loopback(match[1]) or self._named(match[1], match[2])):
            return None
        return Refuse(403, f"a page of {origin[:80]} may not do that here: {self._answers_to()}")

    def _ours(self, host: str, port: str | None) -> bool:
        return (_loopback(host) and port in (None, str(self.port))) or self._named(host, port)

    def _named(self, host: str, port: str | None) -> bool:
        return host in self.names or f"{host}:{port}" in self.names

    def _answers_to(self) -> str:
        return f"it answers to {', '.join([f'localhost:{self.port}', *sorted(self.names)])}"


@lru_cache(512)
def _port(authority: str) -> str | None:
    found = re.search(r":([0-9]+)\Z", authority)
    return found[1] if found else None


@lru_cache(512)
def _loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
