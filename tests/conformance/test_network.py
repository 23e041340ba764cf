"""What a guest reaches: what its network allows, by name and by address, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import attrs
import pytest

import aegis_sdk as aegis
from tests.conftest import listening, slowness
from tests.outside_world import METADATA, OWN, PRIVATE, PUBLIC, PUBLIC_6, PUBLIC_TOO, Namespace, Outside, named, web

pytestmark = [pytest.mark.in_process, pytest.mark.timeout(60)]

PROGRAM = Path(__file__).parent.parent / "in_guest" / "dial.py"
NAMES = {
    "a.example": PUBLIC,
    "b.example": PUBLIC_TOO,
    "sub.b.example": PUBLIC_TOO,
    "six.example": PUBLIC_6,
    "other.example": PUBLIC_TOO,
    "private.example": PRIVATE,
}


def echo(connected: socket.socket) -> None:
    """Give everything back, and the end of it."""
    while data := connected.recv(1 << 16):
        connected.sendall(data)


def pour(connected: socket.socket) -> None:
    """Send as many MiB as the first line says."""
    wanted = int(connected.makefile("rb").readline())
    for _ in range(wanted):
        connected.sendall(b"x" * (1 << 20))


def breaks(connected: socket.socket) -> None:
    connected.recv(1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


@pytest.fixture(scope="module")
def servers(namespace: Namespace) -> Iterator[Outside]:
    """Servers of pages, of echoes, of much, of resets, on addresses of all kinds; and names of them."""
    with closing(Outside(namespace)) as outside, named(NAMES):
        for address in (PUBLIC, PUBLIC_TOO, PUBLIC_6, PRIVATE, METADATA):
            outside.serve(address, 80, web(f"page of {address}"))
        for port, answer in ((7, echo), (19, pour), (9, breaks)):
            outside.serve(PUBLIC, port, answer)
        yield outside


@attrs.frozen
class Guest:
    """A guest with Python, and a program in it that connects."""

    vm: aegis.Sandbox

    def does(self, *words: object, seconds: float = 20) -> str:
        """What the program says to that."""
        done = self.vm.run("python3", "/tmp/dial.py", *map(str, words), timeout=seconds * slowness())
        assert done.exit_code == 0, done.stderr
        return done.stdout.strip()

    def fetches(self, host: str, port: int = 80) -> str:
        return self.does("fetch", host, port)


@pytest.fixture(scope="module")
def guest(images, driver, servers) -> Iterator[Guest]:
    """One guest for all tests, whose network each changes to what it is about."""
    with aegis.Sandbox(image=images.reference("python"), driver=driver) as vm:
        vm.files.write("/tmp/dial.py", PROGRAM.read_text())
        yield Guest(vm)


def _with(guest: Guest, network: aegis.Network) -> Guest:
    guest.vm._engine.update_network(guest.vm.id, network)
    return guest


@pytest.fixture
def public(guest) -> Guest:
    return _with(guest, aegis.Network())


LISTED = aegis.Network(allow=["a.example:80", "*.b.example", f"{PRIVATE}:80"])


@pytest.fixture
def listed(guest) -> Guest:
    """A guest that may reach what is listed."""
    return _with(guest, LISTED)


@pytest.fixture
def sharing(guest) -> Iterator[tuple[Guest, socket.socket]]:
    """A guest that may reach a listening socket of this machine, as db:5432, and nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        shared = {"db:5432": f"127.0.0.1:{server.getsockname()[1]}"}
        yield _with(guest, aegis.Network(allow_host=shared, mode="none")), server


@pytest.fixture
def full(guest) -> Guest:
    return _with(guest, aegis.Network(mode="full"))


@pytest.mark.timeout(60)
def test_what_is_public(public):
    """By address and by name, IPv4 and IPv6, in any case and with a dot at the end."""
    for host in (PUBLIC, PUBLIC_6, "a.example", "A.Example.", "six.example"):
        expected = PUBLIC_6 if host in (PUBLIC_6, "six.example") else PUBLIC
        assert public.fetches(host) == f"page of {expected}", host


@pytest.mark.parametrize("host", [PRIVATE, METADATA, "private.example", f"::ffff:{PRIVATE}", OWN])
def test_what_is_not_public(public, host):
    """Is refused at once, as by a port on which nobody listens."""
    start = time.monotonic()
    assert public.fetches(host) == "ConnectionRefusedError"
    assert time.monotonic() - start < 10 * slowness()


def test_refusals_are_fast(public):
    """A refused connection costs no more than a question of the host: a hundred in a moment."""
    assert float(public.does("refusals", PRIVATE, 100)) < 5 * slowness()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "0.0.0.0", "localhost", "127.9.9.9"])
def test_the_guests_own_loopback_is_its_own(public, host):
    """What is local in a guest stays in it."""
    assert public.does("itself", host) == "hello"


def test_only_what_a_list_allows(listed):
    """A list of names, wildcards, addresses, ports: a wildcard does not match its parent, nor a port another."""
    assert listed.fetches("a.example") == f"page of {PUBLIC}"
    assert listed.fetches("a.example", 7) == "ConnectionRefusedError"
    assert listed.fetches("sub.b.example") == f"page of {PUBLIC_TOO}"
    assert listed.fetches(PRIVATE) == f"page of {PRIVATE}"
    assert listed.fetches("other.example") == "gaierror"
    assert listed.fetches(PUBLIC_6) == "ConnectionRefusedError"


def test_this_machine_is_out_of_reach(full):
    """In no policy: what listens on the loopback of the host, the router, the daemon, hears of nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        for host in ("::ffff:127.0.0.1", "0.0.0.0", "64:ff9b::127.0.0.1"):
            assert full.fetches(host, server.getsockname()[1]) == "ConnectionRefusedError"
        with pytest.raises(TimeoutError):
            server.accept()
    assert full.fetches(PRIVATE) == f"page of {PRIVATE}"
    assert full.fetches(METADATA) == f"page of {METADATA}"


def test_ports_of_this_machine(sharing):
    """One port of the loopback, under a name: that one, and nothing else."""
    guest, server = sharing

    def answer() -> None:
        with server.accept()[0] as connected:
            web("mine")(connected)

    thread = threading.Thread(target=answer)
    thread.start()
    assert guest.fetches("db", 5432) == "mine"
    thread.join()
    assert guest.fetches("db", 1) == "ConnectionRefusedError"
    assert guest.fetches(PUBLIC) == "ConnectionRefusedError"


@pytest.mark.timeout(120)
def test_much_and_whole(public):
    """Bytes come whole and in order both ways, with half-close; a reset arrives as one."""
    assert public.does("echo", PUBLIC, 7, 8 << 20, seconds=60) == "same"
    assert public.does("reset", PUBLIC, 9) == "ConnectionResetError"


def test_datagrams_are_refused(public):
    """There is no UDP but for names, and a client learns so at once; what pings gets no answer."""
    for host in (PUBLIC, PUBLIC_6):
        assert public.does("datagram", host, 443) == "ConnectionRefusedError"


def test_nothing_listens_here(public):
    """A guest's connections open no port of this machine."""
    before = listening()
    with public.vm.start("python3", "/tmp/dial.py", "hold", PUBLIC, "7") as holding:
        assert holding.stdout.readline() == "held\n"
        assert listening() <= before


@pytest.fixture(scope="module")
def without(driver, servers) -> Iterator[aegis.Sandbox]:
    """A small guest, booted without a network."""
    with aegis.Sandbox(network="none", driver=driver) as vm:
        yield vm


@pytest.mark.every_driver
def test_without_a_network(without):
    """A guest that may reach nothing fails at once, whatever root does in it; and there is no card in any."""
    start = time.monotonic()
    assert without.run("nc", "-w", "10", PUBLIC, "80").exit_code
    assert time.monotonic() - start < 8 * slowness()
    assert without.run("ls", "/sys/class/net").stdout.split() == ["lo"]


@pytest.mark.every_driver
def test_pages(without):
    """A guest of any driver gets pages by name and address, IPv4 and IPv6, and none of what is not public."""
    _with(Guest(without), aegis.Network())
    for host, address in {"a.example": PUBLIC, f"[{PUBLIC_6}]": PUBLIC_6, "six.example": PUBLIC_6}.items():
        assert without.run("wget", "-q", "-O-", f"http://{host}/").stdout == f"page of {address}"
    assert without.run("wget", "-q", "-O-", f"http://{PRIVATE}/").exit_code


def test_networks_of_root(without):
    """A network that a guest's root makes within it, IPv4 or IPv6, has its addresses; the others are as before."""
    made = "ip link add own type dummy && ip link set own up && ip addr add 10.9.9.1/24 dev own"
    assert without.shell(f"{made} && ip -6 addr add fd00:9::1/64 dev own").exit_code == 0
    for address, way in {"10.9.9.2": "own", "fd00:9::2": "own", PUBLIC: "lo", PUBLIC_6: "lo"}.items():
        assert f" dev {way} " in without.shell(f"ip route get {address}").stdout


def test_events(public):
    """Each attempt is told of: name, address, port, verdict, rule, bytes."""
    gateway = public.vm._engine._roster.find(public.vm.id).running.gateway
    public.fetches("a.example")
    assert public.fetches(PRIVATE) == "ConnectionRefusedError"
    last = gateway.events()[-2:]
    assert [(event.name, event.address, event.port, event.allowed, event.rule) for event in last] == [
        ("a.example", PUBLIC, 80, True, "public"),
        ("private.example", PRIVATE, 80, False, "public"),
    ]
    assert last[0].received > 20


def test_root_gains_nothing_by_removing_the_capture(images, driver, servers):
    """Where a guest's root takes the routes away, nothing is reached at all: there is no card."""
    with aegis.Sandbox(image=images.reference("python"), driver=driver, network=LISTED) as vm:
        listed = Guest(vm)
        vm.files.write("/tmp/dial.py", PROGRAM.read_text())
        assert listed.fetches(PRIVATE) == f"page of {PRIVATE}"
        assert listed.does("unroute") == "done"
        assert listed.fetches(PRIVATE) in ("OSError", "ConnectionRefusedError")
        assert listed.fetches(PUBLIC) in ("OSError", "ConnectionRefusedError")
