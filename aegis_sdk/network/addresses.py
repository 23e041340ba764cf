"""What kind of address an address is: a table, by IANA's registries of special-purpose addresses."""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address

#: No guest has business there, whatever its policy: this machine itself, and what is no single machine.
NOWHERE = frozenset({"loopback", "unspecified", "multicast", "broadcast"})
PUBLIC = ""
_SPECIAL = {
    # Where clouds tell a machine its secrets: on any cloud they would be this machine's. One of them is public.
    "cloud-metadata": (
        *("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16"),
        *("fd00:ec2::254", "fd20:ce::254"),
    ),
    "unspecified": ("0.0.0.0/8", "::"),
    "loopback": ("127.0.0.0/8", "::1"),
    "broadcast": ("255.255.255.255",),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "carrier-grade NAT": ("100.64.0.0/10",),
    "reserved": (
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20"),
    ),
}
_UNICAST = IPv6Network("2000::/3")  # all that is given out of IPv6
_6TO4 = IPv6Network("2002::/16")
_NAT64 = IPv6Network("64:ff9b::/96")


def plain(address: Address) -> Address:
    """*address*, or the IPv4 address that it is another writing of."""
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def meanings(address: Address) -> tuple[Address, ...]:
    """All that may be reached by *address*: itself, and the IPv4 address in it that a gateway may translate it to."""
    address = plain(address)
    if isinstance(address, IPv6Address):
        if address in _6TO4:
            return address, IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
        if address in _NAT64:
            return address, IPv4Address(int(address) & 0xFFFFFFFF)
    return (address,)


def kind(address: Address) -> str:
    """What kind of special address any meaning of *address* is; PUBLIC if none is."""
    kinds = [_kind(each) for each in meanings(address)]
    return next((each for each in kinds if each in NOWHERE), next(filter(None, kinds), PUBLIC))


def _kind(address: Address) -> str:
    for name, blocks in _table().items():
        if any(address in block for block in blocks):
            return name
    if isinstance(address, IPv6Address) and address not in _UNICAST and address not in _NAT64:
        return "reserved"
    return PUBLIC


@cache
def _table() -> dict[str, tuple[IPv4Network | IPv6Network, ...]]:
    return {name: tuple(map(ip_network, blocks)) for name, blocks in _SPECIAL.items()}
