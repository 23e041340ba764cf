"""Who a registry takes us for: its challenges (RFC 9110, 11.6.1) and the tokens that answer them.

The token protocol is the distribution project's (docs/spec/auth): ``token.md`` and ``oauth.md``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from threading import Lock
from typing import Protocol

import attrs

from aegis_sdk.errors import RegistryDenied, RegistryFailed
from aegis_sdk.images.registry.credentials import Credentials

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_NAME})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))\s*(?:,|$)', re.DOTALL)
_SCHEME = re.compile(rf"[\s,]*({_NAME})(?:\s+|,|$)")
_SHOWN = 5  # of the ways to authenticate that a registry offers and nobody knows
_TOKEN = re.compile(r"[\x21-\x7e]{1,65536}", re.ASCII)


@attrs.frozen
class Challenge:
    """One way to authenticate that a registry offers; *scheme* and the names of *parameters* are lower case."""

    scheme: str
    parameters: Mapping[str, str]


class Asker(Protocol):
    """Asks a token service on behalf of a keyring."""

    def ask(self, realm: str, parameters: Mapping[str, str], credentials: Credentials | None) -> bytes:
        """The body of its answer; RegistryDenied if it refuses."""


def challenges(headers: Iterable[str]) -> Iterator[Challenge]:
    """What the WWW-Authenticate *headers* offer, as far as they can be understood."""
    for header in headers:
        at = 0
        while found := _SCHEME.match(header, at):
            parameters, at = _parameters(header, found.end())
            yield Challenge(found[1].lower(), parameters)


def _parameters(header: str, at: int) -> tuple[dict[str, str], int]:
    parameters: dict[str, str] = {}
    while found := _PARAMETER.match(header, at):
        name, quoted, plain = found.groups()
        parameters.setdefault(name.lower(), plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        at = found.end()
    return parameters, at


@attrs.define
class Keyring:
    """The Authorization header for one repository: made when it is first asked for, and anew when it is stale."""

    registry: str
    repository: str
    _credentials: Callable[[], Credentials | None] = attrs.field(repr=False)
    _header: str = attrs.field(default="", init=False, repr=False)
    _lock: Lock = attrs.field(factory=Lock, init=False, repr=False)

    def header(self) -> str:
        """What is to be sent now; empty before a registry has asked."""
        return self._header

    def renew(self, stale: str, headers: Iterable[str], asker: Asker) -> str:
        """The header that answers a challenge to *stale*; of several threads, one asks for a token."""
        with self._lock:
            if self._header == stale:
                self._header = self._answer(tuple(challenges(headers)), asker)
            return self._header

    def _answer(self, offers: tuple[Challenge, ...], asker: Asker) -> str:
        for offer in offers:
            if offer.scheme == "bearer" and offer.parameters.get("realm"):
                return f"Bearer {self._token(offer.parameters, asker)}"
        if any(offer.scheme == "basic" for offer in offers):
            own = self._credentials()
            if own and own.user:
                return own.basic()
            raise denied(self.registry, "wants a user and a password")
        schemes = ", ".join(sorted({offer.scheme[:40] for offer in offers[:_SHOWN]})) or "none"
        raise RegistryFailed(f"{self.registry} wants to know who asks, in ways unknown here (offered: {schemes})")

    def _token(self, parameters: Mapping[str, str], asker: Asker) -> str:
        # The scope is not taken from the challenge: a registry may not ask for more in our name.
        wanted = {"service": parameters.get("service", ""), "scope": f"repository:{self.repository}:pull"}
        body = asker.ask(
            parameters["realm"], {name: value for name, value in wanted.items() if value}, self._credentials()
        )
        try:
            said = json.loads(body)
            token = said.get("token") or said.get("access_token")
        except (ValueError, RecursionError, AttributeError):
            token = None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise RegistryFailed(f"the token service of {self.registry} answered without a token")
        return token


def denied(registry: str, why: str) -> RegistryDenied:
    """The error that says how to log in."""
    return RegistryDenied(f"{registry} {why}", hint=f"log in with: docker login {registry}")
