"""What a guest may reach."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Self, cast

import attrs

from aegis_sdk.errors import InvalidValue
from aegis_sdk.model.fixed import Fixed
from aegis_sdk.model.rule import Rule, host_name

MODES = ("public", "none", "full")
MAXIMUM_RULES = 1000
_TARGET = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})", re.ASCII)
_NAMED = re.compile(r"([^:]*)(?::([0-9]{1,5}))?", re.ASCII)
_SHARE = 'allow_host={"db": "127.0.0.1:5432"} shares one port of this machine, under a name'


def _rules(rules: Iterable[str]) -> tuple[str, ...]:
    if isinstance(rules, str):
        raise InvalidValue(f"network rules must be a list of texts, not {rules!r}", hint=f"write [{rules!r}]")
    if not isinstance(rules, Iterable):
        raise InvalidValue(f"network rules must be a list of texts, not {rules!r}")
    made = tuple(dict.fromkeys(str(Rule.of(rule)) for rule in rules))
    if len(made) > MAXIMUM_RULES:
        raise InvalidValue(f"{len(made)} network rules are too many: there can be {MAXIMUM_RULES}")
    return made


def _allowed(rules: Iterable[str] | None) -> tuple[str, ...]:
    # None until it is known what decides then: an empty list of what a guest may reach must not open all.
    return cast("tuple[str, ...]", None) if rules is None else _rules(rules)


def _shared(shared: Mapping[str, str]) -> Fixed:
    if not isinstance(shared, Mapping):
        raise InvalidValue(f"allow_host must be names with addresses, not {shared!r}", hint=_SHARE)
    if len(shared) > MAXIMUM_RULES:
        raise InvalidValue(f"{len(shared)} shared ports are too many: there can be {MAXIMUM_RULES}")
    targets = {name: _target(name, target) for name, target in shared.items()}
    made = {_shared_name(name, port): target for name, (target, port) in targets.items()}
    if len(made) < len(shared):
        raise InvalidValue("a name and port are given to a guest twice")
    return Fixed(made)


def _shared_name(name: str, port: int) -> str:
    """The name and port by which a guest knows what is shared with it: by default the port that it has here."""
    found = _NAMED.fullmatch(name) if isinstance(name, str) else None
    if not found or not 1 <= int(found[2] or port) <= 65_535:
        raise InvalidValue(f"{name!r} is not a name, or NAME:PORT, by which a guest can know a port", hint=_SHARE)
    known = host_name(found[1])
    if known == "localhost" or known.endswith(".localhost"):
        raise InvalidValue(f"{known} is the guest itself", hint=_SHARE)
    return f"{known}:{int(found[2] or port)}"


def _target(name: str, target: str) -> tuple[str, int]:
    from ipaddress import ip_address

    if isinstance(target, str) and (found := _TARGET.fullmatch(target)) and 1 <= (port := int(found[3])) <= 65_535:
        try:
            address = ip_address(found[1] or found[2])
        except ValueError as error:
            raise InvalidValue(f"{name} cannot lead to {target!r}: {error}", hint=_SHARE) from None
        return (f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"), port
    raise InvalidValue(f"{name} leads to {target!r}, which is not an address and a port", hint=_SHARE)


@attrs.frozen(kw_only=True)
class Network:
    """What a guest may connect to: where no rule of *deny* or *allow* speaks, *mode* decides.

    ``public`` is everything but this machine, private and other special addresses; ``none`` nothing; ``full``
    everything but this machine's loopback. It is ``none`` by default if *allow* is given, be it empty, else ``public``.
    Rules are names (``packages.example.org``), names below one (``*.example.net:443``), or addresses
    (``10.0.0.0/8:5432``), with ports; *deny* comes first. A name in *allow* holds for public addresses only.
    *allow_host* are names in the guest for ports of this machine's own: ``{"db": "127.0.0.1:5432"}``.
    """

    mode: str = ""
    allow: tuple[str, ...] = attrs.field(default=cast("tuple[str, ...]", None), converter=_allowed)
    deny: tuple[str, ...] = attrs.field(default=(), converter=_rules)
    allow_host: Mapping[str, str] = attrs.field(factory=dict, converter=_shared)

    def __attrs_post_init__(self) -> None:
        mode = self.mode or ("public" if self.allow is None else "none")
        if mode not in MODES:
            raise InvalidValue(f"a network is public, none or full, not {self.mode!r}")
        object.__setattr__(self, "mode", mode)
        object.__setattr__(self, "allow", self.allow or ())
        for words in self.allow:
            if (block := Rule.of(words).block) and block.is_loopback:
                raise InvalidValue(f"{words} is this machine itself, which no rule opens to a guest", hint=_SHARE)

    @classmethod
    def of(cls, network: str | Self) -> Self:
        """What *network* means: a Network, or the word for one: ``public``, ``none``, ``full``."""
        if isinstance(network, cls):
            return network
        if not isinstance(network, str) or network not in MODES:
            raise InvalidValue(f"a network is public, none, full or a Network, not {network!r}")
        return cls(mode=network)

    def __str__(self) -> str:
        allowed = self.mode if self.mode != "none" or not (self.allow or self.allow_host) else "only"
        shared = (f"{known} (this machine's {target})" for known, target in self.allow_host.items())
        words = " ".join(filter(None, (allowed, *([", ".join((*self.allow, *shared))]))))
        return f"{words}, but not {', '.join(self.deny)}" if self.deny else words


def network(words: str | Network) -> Network:
    """What *words* mean, as ``Network.of`` says."""
    return Network.of(words)
