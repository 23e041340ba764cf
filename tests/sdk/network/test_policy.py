"""Who may connect where."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_sdk.model import Network
from aegis_sdk.network.addresses import kind, meanings
from aegis_sdk.network.policy import Attempt, Policy, Verdict, judge

PUBLIC_4, PUBLIC_6 = "93.184.216.34", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"


def asked(address: str, port: int = 443, *names: str, **network: Any) -> Verdict:
    own = network.pop("own", False)
    policy = Policy.of(Network(**network))
    return judge(Attempt(address=ip_address(address), port=port, names=names, own=own), policy)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.255",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
        ),
        *("169.254.169.254", "169.254.0.1", "100.64.0.1", "100.127.255.255", "100.100.100.200", "168.63.129.16"),
        *("192.0.0.192", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "198.19.255.255", "192.88.99.1"),
        *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
        *(
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:0:127.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fec0::1",
        ),
        *("fc00::1", "fd00:ec2::254", "fd20:ce::254", "ff02::1", "2001:db8::1", "2001::1", "3fff::1", "100::1"),
        *("2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::", "64:ff9b::127.0.0.1", "64:ff9b::10.0.0.1"),
        *("64:ff9b::169.254.169.254", "64:ff9b:1::1.2.3.4", "4000::1", "5f00::1"),
    ],
)
def test_public_is_public(address):
    """What is not everybody's is not reached, however it is written; and under a name no more than without."""
    assert not asked(address).allowed
    assert not asked(address, 443, "rebound.example", allow=["rebound.example"]).allowed
    assert not asked(address, 443, "rebound.example", allow=["*"]).allowed


@pytest.mark.parametrize(
    "address",
    [
        *(
            PUBLIC_4,
            "1.1.1.1",
            "172.15.255.255",
            "172.32.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "198.17.0.1",
            "223.255.255.255",
        ),
        *(PUBLIC_6, "::ffff:1.1.1.1", "2002:101:101::1", "64:ff9b::1.1.1.1", "2001:200::1"),
    ],
)
def test_what_is_public_is_reached(address):
    """All else is everybody's."""
    assert asked(address).allowed
    assert not asked(address, mode="none").allowed
    assert not asked(address, own=True).allowed


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "127.8.9.1", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "64:ff9b::127.0.0.1"]
)
@pytest.mark.parametrize("network", [{"mode": "full"}, {"mode": "full", "allow": ["0.0.0.0/0", "::/0", "*"]}])
def test_this_machine_is_reached_in_no_policy(address, network):
    """The loopback is this machine's, whatever is allowed; what is asked for may be had by allow_host."""
    verdict = asked(address, **network)
    assert not verdict.allowed
    assert verdict.rule == "always"


def test_deny_comes_first():
    """What is denied by name, address or port is denied, whatever allows it."""
    for rule in ("evil.example", "*.example", PUBLIC_4, "93.0.0.0/8", "*:443", "*"):
        verdict = asked(PUBLIC_4, 443, "evil.example", mode="full", allow=["evil.example", PUBLIC_4], deny=[rule])
        assert (verdict.allowed, verdict.rule) == (False, rule)
    assert not asked("64:ff9b::93.184.216.34", mode="full", deny=[PUBLIC_4]).allowed
    assert not asked("::ffff:93.184.216.34", mode="full", deny=[PUBLIC_4]).allowed


def test_rules_with_ports():
    """A rule with ports is about these alone."""
    network = {"allow": ["a.example:443", "10.0.0.0/8:5432", "b.example:8000-8100"]}
    assert asked(PUBLIC_4, 443, "a.example", **network).rule == "a.example:443"
    assert not asked(PUBLIC_4, 80, "a.example", **network).allowed
    assert asked("10.1.2.3", 5432, **network).allowed
    assert not asked("10.1.2.3", 5433, **network).allowed
    assert [asked(PUBLIC_4, port, "b.example", **network).allowed for port in (7999, 8000, 8100, 8101)] == [0, 1, 1, 0]


def test_names_hold_for_what_was_resolved():
    """A rule by name is about addresses that the guest has by that name, and about no other."""
    network = {"allow": ["*.example.net"]}
    assert asked(PUBLIC_4, 443, "a.example.net", **network).allowed
    assert asked(PUBLIC_4, 443, "other.example", "a.example.net", **network).allowed
    for names in ((), ("example.net",), ("badexample.net",), ("a.example.net.evil.org",)):
        assert not asked(PUBLIC_4, 443, *names, **network).allowed


def test_a_private_address_is_allowed_by_address():
    """A name that leads to one is not enough, and the verdict says what would be."""
    verdict = asked("10.0.0.5", 5432, "db.corp.example", allow=["*.corp.example"])
    assert not verdict.allowed
    assert verdict.remedy == "10.0.0.5:5432"
    assert "public ones alone" in verdict.reason
    assert asked("10.0.0.5", 5432, "db.corp.example", allow=[verdict.remedy]).allowed


@pytest.mark.parametrize("mode", ["public", "none"])
@pytest.mark.parametrize("names", [(), ("a.example", "b.example")])
@pytest.mark.parametrize("address", [PUBLIC_4, PUBLIC_6, "10.0.0.1", "fd00::1", "169.254.169.254", "::ffff:10.0.0.1"])
@pytest.mark.parametrize("own", [False, True])
def test_the_remedy_helps(mode, names, address, own):
    """What is refused is allowed as soon as the rule is there that the verdict names."""
    verdict = asked(address, 8443, *names, own=own, mode=mode)
    if not verdict.allowed:
        assert asked(address, 8443, *names, own=own, mode=mode, allow=[verdict.remedy]).allowed


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
def test_no_more_is_public_than_python_says(address):
    """What is public here is so for the standard library's table, too."""
    if not kind(address) and len(meanings(address)) == 1:
        assert address.is_global
        assert not address.is_multicast


HOSTS = ["a.example", "b.a.example", "*.example", "*.a.example", "*"]
BLOCKS = ["10.0.0.0/8", "10.1.0.0/16", "8.8.8.8", "8.0.0.0/8", "2606::/16", "2606::1", "0.0.0.0/0"]
ADDRESSES = [
    "10.1.2.3",
    "10.2.0.1",
    "8.8.8.8",
    "8.9.9.9",
    "2606::1",
    "2606::2",
    "127.0.0.1",
    "::ffff:8.8.8.8",
    "fd00::1",
]
rules = st.lists(
    st.tuples(st.sampled_from(HOSTS + BLOCKS), st.sampled_from([(1, 65535), (80, 80), (80, 443)])), max_size=4
)


def plain_model(mode, allow, deny, attempt):
    """The same in the plainest words that there are."""
    port, names, own = attempt.port, attempt.names, attempt.own
    address = {"::ffff:8.8.8.8": "8.8.8.8", "::ffff:808:808": "8.8.8.8"}.get(str(attempt.address), str(attempt.address))
    if address == "127.0.0.1":
        return False
    public = address[0] in "82" and not own

    def speaks(rule, names_count):
        host, (first, last) = rule
        if not first <= port <= last:
            return False
        if "/" in host or host[0].isdigit():
            block = ip_network(host)
            return block.version == ip_address(address).version and ip_address(address) in block
        if not names_count:
            return False
        return host == "*" or any(
            host == name or (host[0] == "*" and ("." + name).endswith(host[1:]) and name != host[2:]) for name in names
        )

    if any(speaks(rule, True) for rule in deny):
        return False
    if any(speaks(rule, public) for rule in allow):
        return True
    return mode == "full" or (mode == "public" and public)


attempts = st.builds(
    Attempt,
    address=st.sampled_from(ADDRESSES).map(ip_address),
    port=st.sampled_from([22, 80, 443]),
    names=st.frozensets(st.sampled_from(["a.example", "b.a.example", "example", "other.org"])),
    own=st.booleans(),
)


@given(st.sampled_from(["public", "none", "full"]), rules, rules, attempts)
def test_as_a_plain_model(mode, allow, deny, attempt):
    """The function says what a much plainer one says."""

    def written(rule):
        host, (first, last) = rule
        base, slash, length = host.partition("/")
        return f"[{base}]{slash}{length}:{first}-{last}" if ":" in host else f"{host}:{first}-{last}"

    network = Network(mode=mode, allow=map(written, allow), deny=map(written, deny))
    assert judge(attempt, Policy.of(network)).allowed == plain_model(mode, allow, deny, attempt)
