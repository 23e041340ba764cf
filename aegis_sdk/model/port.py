"""Ports of a guest that can be reached from outside."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Self

import attrs

from aegis_sdk.arguments import whole
from aegis_sdk.errors import InvalidValue

PROTOCOLS = ("http", "tcp")
MAXIMUM_PORTS = 16
_WORDS = re.compile(r"(?:([0-9]{1,5}):)?([0-9]{1,5})(?:/([a-z]+))?")
_EXAMPLES = "write PORT for HTTP behind the router, PORT/tcp, or LOCAL:PORT/tcp for a port of this machine's choice"


@attrs.frozen
class Port:
    """A TCP port in a guest: HTTP is reached by the router, anything else (``tcp``) by a port of this machine.

    *local* is that port, on 127.0.0.1; None for any that is free.
    """

    number: int
    protocol: str = "http"
    local: int | None = None

    def __attrs_post_init__(self) -> None:
        whole("a port", self.number, at_least=1, at_most=65_535)
        if self.protocol not in PROTOCOLS:
            raise InvalidValue(f"a port's protocol is http or tcp, not {self.protocol!r}", hint=_EXAMPLES)
        if self.local is not None:
            whole("a local port", self.local, at_least=1, at_most=65_535)
            if self.protocol == "http":
                raise InvalidValue(
                    f"port {self.number} cannot have a local port: HTTP comes by the router", hint=_EXAMPLES
                )

    @classmethod
    def of(cls, port: int | str | Self) -> Self:
        """What *port* means: ``8000``, ``"8000"``, ``"5432/tcp"``, ``"15432:5432/tcp"``."""
        if isinstance(port, cls):
            return port
        if isinstance(port, int):
            return cls(port)
        if not isinstance(port, str) or not (found := _WORDS.fullmatch(port)):
            raise InvalidValue(f"{port!r} is not a port", hint=_EXAMPLES)
        local, number, protocol = found.groups()
        return cls(int(number), protocol or "http", int(local) if local else None)

    @property
    def label(self) -> str:
        """What it is called where addresses are listed: ``8000``, ``5432/tcp``."""
        return str(self.number) if self.protocol == "http" else f"{self.number}/{self.protocol}"

    def __str__(self) -> str:
        return f"{self.local}:{self.label}" if self.local else self.label


def exposed(ports: Iterable[int | str | Port]) -> tuple[Port, ...]:
    """The ports that these mean, each of them once."""
    if isinstance(ports, (int, str)):
        raise InvalidValue(f"the ports to expose are a list of them, not {ports!r}")
    made = tuple(map(Port.of, ports))
    if len({port.number for port in made}) < len(made):
        raise InvalidValue("a port is exposed twice")
    local = [port.local for port in made if port.local]
    if len(set(local)) < len(local):
        raise InvalidValue("a port of this machine is given to two ports of the guest")
    if len(made) > MAXIMUM_PORTS:
        raise InvalidValue(f"{len(made)} ports are too many: a guest can have {MAXIMUM_PORTS} that are exposed")
    return made
