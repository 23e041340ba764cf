"""What was tried to get around others' policies, each by its name; what is private is served, and hears of nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest

from aegis_sdk.model import Network
from aegis_sdk.network.gateway import Gateway
from tests.outside_world import METADATA, OWN, OWN_6, PRIVATE, PUBLIC, PUBLIC_6, PUBLIC_TOO, Outside, web
from tests.sdk.network.test_gateway import Guest

POLICIES = {
    "public": {"mode": "public"},
    "a list of names": {"allow": ["*", "*.example", "inside.example"]},
    "public, and names": {"mode": "public", "allow": ["*", "inside.example"]},
}
INSIDE = {"private": PRIVATE, "metadata": METADATA, "own-4": OWN, "own-6": OWN_6, "loopback": "127.0.0.1"}


@pytest.fixture
def names() -> dict[str, tuple[str, ...]]:
    """What names lead to; a test changes it as whoever owns a domain does."""
    return {"a.example": (PUBLIC,), "six.example": (PUBLIC_6,), "sub.b.example": (PUBLIC_TOO,)}


@pytest.fixture
def guest(names) -> Iterator[Callable[..., Guest]]:
    made: list[Gateway] = []

    def lookup(name: str) -> tuple[IPv4Address | IPv6Address, ...]:
        return tuple(map(ip_address, names.get(name, ())))

    def guest(**network: object) -> Guest:
        made.append(Gateway(Network(**network), environ={}, lookup=lookup))  # type: ignore[arg-type]
        return Guest(made[-1])

    yield guest
    for gateway in made:
        gateway.close()


@pytest.fixture
def inside(outside: Outside) -> Callable[[], int]:
    """Who listens where no guest should come; says how many did."""
    heard: list[object] = []
    for address in (PRIVATE, METADATA):
        outside.serve(address, 80, heard.append)
    return lambda: len(heard)


def refused(guest: Guest, address: str, port: int = 80) -> str:
    """Why there is no connection."""
    with pytest.raises(ConnectionRefusedError) as why:
        guest.connects(address, port)
    assert "'Connection refused'" not in str(why.value)  # by the policy, and not by who was dialled
    return str(why.value)


def v4_mapped(address: str) -> str:
    return f"::ffff:{address}"


def nat64(address: str) -> str:
    return f"64:ff9b::{address}"


def from_6to4(address: str) -> str:
    return str(IPv6Address(0x2002 << 112 | int(IPv4Address(address)) << 80 | 1))


@pytest.mark.parametrize("network", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("written", [str, v4_mapped, nat64, from_6to4])
def test_addresses_written_another_way(guest, inside, network, written):
    """A literal, v4-mapped, by NAT64, by 6to4: an address is what it leads to, in whatever form it comes."""
    trying = guest(**network)
    for address in (PRIVATE, METADATA, "127.0.0.1", OWN):
        refused(trying, written(address))
    assert not inside()


@pytest.mark.parametrize(
    "text", ["2130706433", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "127.1", "127.0.0.1.", "10.99.0.07", "1.1.1.1%lo"]
)
def test_numbers_that_some_read_as_addresses(guest, text):
    """Decimal, octal, hexadecimal, shortened: neither an address, nor a name that anybody is asked for."""
    trying = guest()
    assert trying.resolves(text) is True
    with trying.opens() as stream:
        stream.sendall(b'{"call": "outgoing", "address": "%s", "port": 80}\n' % text.encode())
        assert stream.recv(99) == b""


@pytest.mark.parametrize("network", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("where", INSIDE)
def test_names_that_lead_inside(guest, inside, names, network, where):
    """To a private network, a cloud's secrets, this machine by any of its addresses: a name opens none of them."""
    names["inside.example"] = (INSIDE[where],)
    trying = guest(**network)
    trying.resolves("inside.example")
    refused(trying, INSIDE[where])
    assert not inside()


def test_a_name_with_an_address_inside_among_others(guest, outside, inside, names):
    """Each of a name's addresses is judged by itself: the public one is reached, the other is not."""
    outside.serve(PUBLIC, 80, web("outside"))
    names["inside.example"] = (PRIVATE, PUBLIC)
    trying = guest(allow=["inside.example"])
    assert trying.resolves("inside.example") == [PRIVATE, PUBLIC]
    refused(trying, PRIVATE)
    assert trying.fetches(PUBLIC) == b"outside"
    assert not inside()


def test_rebinding_between_check_and_use(guest, outside, inside, names):
    """Nothing is looked up again once it is judged: what a name leads to by then changes nothing."""
    outside.serve(PUBLIC, 80, web("outside"))
    trying = guest(allow=["a.example"])
    assert trying.resolves("a.example") == [PUBLIC]
    names["a.example"] = (PRIVATE,)
    assert trying.fetches(PUBLIC) == b"outside"
    trying.resolves("a.example")
    refused(trying, PRIVATE)
    assert not inside()


def test_names_of_another_guest(guest, outside):
    """What one guest has resolved opens nothing to another."""
    outside.serve(PUBLIC, 80, web("a"))
    first, second = guest(allow=["a.example"]), guest(allow=["a.example"])
    first.resolves("a.example")
    assert first.fetches(PUBLIC) == b"a"
    refused(second, PUBLIC)


def test_wildcards(guest, names):
    """A wildcard is about what is below its name: not that itself, nor what only ends in the same letters."""
    names.update({"b.example": (PUBLIC_TOO,), "evilb.example": (PUBLIC_TOO,), "b.example.evil.org": (PUBLIC_TOO,)})
    trying = guest(allow=["*.b.example"])
    assert trying.resolves("sub.b.example") == [PUBLIC_TOO]
    for name in ("b.example", "evilb.example", "b.example.evil.org"):
        assert trying.resolves(name) is True, name


@pytest.mark.parametrize(("asked", "known"), [("A.EXAMPLE.", PUBLIC), ("BÜCHER.example", PUBLIC_TOO)])
def test_names_written_another_way(guest, names, asked, known):
    """Case, the dot at the end, letters beyond ASCII: the same name, for deny as for allow."""
    names["xn--bcher-kva.example"] = (PUBLIC_TOO,)
    assert guest(allow=["a.example", "bücher.example"]).resolves(asked) == [known]
    assert guest(mode="full", deny=["a.example", "bücher.example"]).resolves(asked) is True


def test_homographs_are_other_names(guest, names):
    """A letter that only looks the same makes another name."""
    names["xn--80ak6aa92e.com"] = (PUBLIC,)
    assert guest(allow=["apple.com"]).resolves("\u0430\u0440\u0440\u04cf\u0435.com") is True


def test_only_ipv6(guest, outside):
    """A name with no IPv4 address is reached by the one that it has, and a rule by name is about it."""
    outside.serve(PUBLIC_6, 80, web("six"))
    trying = guest(allow=["six.example"])
    assert trying.resolves("six.example") == [PUBLIC_6]
    assert trying.fetches(PUBLIC_6) == b"six"


def test_ports(guest, outside):
    """A rule with a port opens no other one, by name or by address."""
    for address in (PUBLIC, PRIVATE):
        for port in (80, 81):
            outside.serve(address, port, web(f"{port}"))
    trying = guest(allow=["a.example:80", f"{PRIVATE}:80"])
    trying.resolves("a.example")
    for address in (PUBLIC, PRIVATE):
        assert trying.fetches(address) == b"80"
        refused(trying, address, 81)


def test_deny_by_name_holds_for_the_address(guest, outside):
    """What is denied by name is denied at its address, too, once the guest has it from anywhere by that name."""
    outside.serve(PUBLIC, 80, web("a"))
    trying = guest(deny=["a.example:80"])
    assert trying.resolves("a.example") == [PUBLIC]
    assert "deny has a.example:80" in refused(trying, PUBLIC)


@pytest.mark.parametrize("network", [{"mode": "full"}, {"mode": "full", "allow": ["*", "0.0.0.0/0", "::/0"]}])
def test_the_loopback_of_this_machine_in_any_policy(guest, network):
    """The router, the daemon, a database: what listens on this machine's loopback hears of no guest."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        trying = guest(**network)
        for address in (
            "127.0.0.1",
            "127.3.2.1",
            "0.0.0.0",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
            "64:ff9b::127.0.0.1",
        ):
            refused(trying, address, server.getsockname()[1])
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("target", ["/run/aegisd.sock", "localhost:1", "0177.0.0.1:1", "::1:1"])
def test_only_an_address_and_port_can_be_shared(target):
    """Not the daemon's socket, no name that somebody could move: allow_host takes nothing else."""
    with pytest.raises(ValueError, match="address"):
        Network(allow_host={"db": target})


def test_what_is_shared_is_judged_by_its_own_rule(guest):
    """A shared port is reached under its name alone: by what it is, it stays out of reach."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        trying = guest(mode="full", allow_host={"db:5432": f"127.0.0.1:{port}"})
        (address,) = trying.resolves("db")
        trying.connects(address, 5432).close()
        refused(trying, "127.0.0.1", port)
        refused(trying, address, port)


def test_no_policy_dials_without_judging():
    """There is one place that opens connections out, and what it is given has been judged."""
    ours = Path(__file__).parents[3] / "aegis_sdk" / "network"
    dialling = {path.name for path in ours.glob("*.py") if "sock_connect" in path.read_text()}
    assert dialling == {"dialler.py"}
