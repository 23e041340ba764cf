"""What one guest knows by name: which addresses were resolved for it, and by what name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from ipaddress import IPv4Address

from aegis_sdk.network.addresses import Address, plain

_MOST_NAMES = 4096
_MOST_ADDRESSES = 64
_LASTING = 3600.0  # seconds since the name was last asked for, or used
#: Where what is shared under a name is for a guest: the block that is for benchmarks of networks, and leads nowhere.
_SHARED = int(IPv4Address("198.18.0.0"))


class Names:
    """The memory of one guest: bounded, so that the oldest is forgotten first; *now* is any clock that only goes on."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, tuple[float, tuple[Address, ...]]] = OrderedDict()
        self._known: dict[Address, set[str]] = {}

    def remember(self, name: str, addresses: Iterable[Address], *, now: float) -> tuple[Address, ...]:
        """From here on the guest knows *addresses*, and no others, by *name*; as many of them as it may know."""
        self.forget(now=now)
        self._drop(name)
        found = tuple(dict.fromkeys(map(plain, addresses)))[:_MOST_ADDRESSES]
        self._found[name] = now, found
        for address in found:
            self._known.setdefault(address, set()).add(name)
        if len(self._found) > _MOST_NAMES:
            self._drop(next(iter(self._found)))
        return found

    def of(self, address: Address, *, now: float) -> frozenset[str]:
        """The names by which the guest knows *address*, which stay known because they are used."""
        self.forget(now=now)
        names = frozenset(self._known.get(plain(address), ()))
        for name in names:
            self._found[name] = now, self._found[name][1]
            self._found.move_to_end(name)
        return names

    def forget(self, *, now: float) -> None:
        """Forget what was not asked for, or used, for an hour."""
        while self._found and now - next(iter(self._found.values()))[0] > _LASTING:
            self._drop(next(iter(self._found)))

    def _drop(self, name: str) -> None:
        for address in self._found.pop(name, (0.0, ()))[1]:
            names = self._known[address]
            names.discard(name)
            if not names:
                del self._known[address]


class SharedNames:
    """Addresses for the names under which ports of this machine are shared; each stays its name's for good."""

    def __init__(self) -> None:
        self._addresses: dict[str, Address] = {}
        self._names: dict[Address, str] = {}

    def address(self, name: str) -> Address:
        """The address by which the guest knows *name*."""
        if name not in self._addresses:
            address = IPv4Address(_SHARED + 1 + len(self._addresses))
            self._addresses[name], self._names[address] = address, name
        return self._addresses[name]

    def name(self, address: Address) -> str | None:
        """The name of an address that was given out."""
        return self._names.get(plain(address))
