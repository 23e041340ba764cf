"""What a guest may reach, as a value."""

from __future__ import annotations

import copy
import pickle

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_sdk import wire
from aegis_sdk.errors import InvalidValue
from aegis_sdk.model import Network, host_name
from aegis_sdk.model.rule import Rule


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ("packages.example.org", "packages.example.org"),
        ("Packages.EXAMPLE.org.", "packages.example.org"),
        ("*.Example.net.:443", "*.example.net:443"),
        ("10.0.0.0/8:5432", "10.0.0.0/8:5432"),
        ("10.1.2.3/32", "10.1.2.3"),
        ("[2001:DB8::]/32:443", "[2001:db8::]/32:443"),
        ("[2001:db8::/32]:443", "[2001:db8::]/32:443"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8:0:0::1", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("example.org:8000-8100", "example.org:8000-8100"),
        ("example.org:80-80", "example.org:80"),
        ("example.org:1-65535", "example.org"),
        ("*:25", "*:25"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("_srv.db_1.internal", "_srv.db_1.internal"),
    ],
)
def test_rules_as_written(words, written):
    """However a rule is written, there is one way to say it, which says the same."""
    rule = Rule.of(words)
    assert str(rule) == written
    assert Rule.of(written) == rule


@pytest.mark.parametrize(
    "words",
    [
        *(
            "",
            ":443",
            "*.",
            ".",
            "a..b",
            ".example.org",
            "*example.org",
            "a.*.org",
            "**",
            "*.*.org",
            "-a.org",
            "a-.org",
        ),
        *(
            "https://example.org/",
            "example.org/",
            "example.org:",
            "example.org:x",
            "example.org:0",
            "example.org:70000",
        ),
        *("example.org:9-1", "example.org:1-", "example.org:80:90", "exa mple.org", " example.org", "example.org\n"),
        *(
            "10.0.0.1/8",
            "10.0.0",
            "010.0.0.1",
            "0x7f.1",
            "2130706433",
            "0177.0.0.1",
            "127.1",
            "10.0.0.0/33",
            "1.2.3.4.",
        ),
        *(
            "[10.0.0.1]:80",
            "[::1",
            "::1]",
            "[::1]80",
            "fe80::1%eth0",
            "[fe80::1%lo]:80",
            "[::]/129",
            "2001:db8::/32:443",
        ),
        *(
            "a" * 64 + ".org",
            "a." * 200 + "org",
            "x" * 10_000,
            "a\0b",
            "\ud800",
            "example.org:\uff14\uff14\uff13",
            "\uff11.2.3.4",
        ),
    ],
)
def test_rules_that_are_none(words):
    """What could be read in two ways, or in none, is refused in words that show it."""
    with pytest.raises(InvalidValue) as refused:
        Network(deny=[words])
    assert len(refused.value.message) < 1000


@pytest.mark.parametrize("rules", ["example.org", 5, [None], [5], [b"example.org"], ["a.org"] * 3 + [7]])
def test_rules_must_be_texts(rules):
    """A list of texts, and not one text, whose letters would be the rules."""
    with pytest.raises(InvalidValue, match="text"):
        Network(allow=rules)


def test_wildcards_are_below():
    """``*.NAME`` is every name below that, at any depth, and neither that nor what only ends alike."""
    rule = Rule.of("*.example.net")
    assert rule.names("a.example.net")
    assert rule.names("b.a.example.net")
    assert not any(map(rule.names, ("example.net", "badexample.net", "example.net.evil.org", "xexample.net")))


def test_the_default_follows_from_what_is_allowed():
    """All that is public, unless a list says what."""
    assert Network().mode == Network(deny=["*:25"]).mode == "public"
    assert Network(allow=[]).mode == "none"  # what was computed, and came to nothing, opens nothing
    assert Network(allow=["example.org"]).mode == "none"
    assert Network(mode="public", allow=["10.0.0.0/8"]).mode == "public"
    assert Network.of("full") == Network(mode="full")
    assert Network(allow_host={"db": "127.0.0.1:1"}).mode == "public"


@pytest.mark.parametrize("mode", ["open", "PUBLIC", 5, None, "private"])
def test_modes_that_are_none(mode):
    """A word that is none of the three is refused."""
    with pytest.raises(InvalidValue, match="public, none"):
        Network.of(mode)


@pytest.mark.parametrize("words", ["127.0.0.1", "127.0.0.0/8:80", "::1", "[::1]:80", "::ffff:127.0.0.1"])
def test_no_rule_opens_this_machine(words):
    """The loopback of the host is opened port by port, under a name, and the error says how."""
    with pytest.raises(InvalidValue, match="this machine") as refused:
        Network(allow=[words])
    assert "allow_host" in refused.value.hint
    assert Network(deny=[words]).deny


def test_shared_ports():
    """Each is known in the guest by a name and a port, which is the port's own unless another one is given."""
    network = Network(allow_host={"DB.": "127.0.0.1:05432", "cache:6379": "[0:0::1]:16379"})
    assert network.allow_host == {"db:5432": "127.0.0.1:5432", "cache:6379": "[::1]:16379"}


@pytest.mark.parametrize(
    "shared",
    [
        {"db": "localhost:5432"},
        {"db": "127.0.0.1"},
        {"db": "127.0.0.1:0"},
        {"db": "127.0.0.1:99999"},
        {"db": "::1:5432"},
        {"db": "300.0.0.1:1"},
        {"db": 5432},
        {"": "127.0.0.1:1"},
        {"1.2.3.4": "127.0.0.1:1"},
        {"db:0": "127.0.0.1:1"},
        {"localhost": "127.0.0.1:1"},
        {5: "127.0.0.1:1"},
        {"db": "127.0.0.1:1", "DB": "127.0.0.1:1"},
        ["db"],
    ],
)
def test_shared_ports_that_are_none(shared):
    """What cannot be meant is refused."""
    with pytest.raises(InvalidValue):
        Network(allow_host=shared)


def test_it_is_a_value():
    """It can be compared, hashed, copied, stored and sent."""
    network = Network(allow=["*.example.org:443"], deny=["10.0.0.0/8"], allow_host={"db": "127.0.0.1:5432"})
    assert {copy.deepcopy(network), pickle.loads(pickle.dumps(network)), attrs.evolve(network)} == {network}
    assert wire.loads(wire.dumps(network), Network) == network
    with pytest.raises(InvalidValue, match="not a network rule"):
        wire.loads('{"allow": ["http://x"]}', Network)


@given(st.text(max_size=80))
def test_any_text(words):
    """Whatever is written is a rule that can be written again, or refused."""
    try:
        rule = Rule.of(words)
    except InvalidValue:
        return
    assert Rule.of(str(rule)) == rule


@given(st.from_regex(r"[a-z0-9-]{1,5}(\.[a-z0-9-]{1,5}){0,3}\.?", fullmatch=True))
def test_names_are_compared_in_one_form(name):
    """Case and a dot at the end make no difference."""
    try:
        known = host_name(name)
    except InvalidValue:
        return
    assert known == host_name(name.upper()) == host_name(known)
