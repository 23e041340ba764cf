"""A guest's connections on their way out: asked, judged, dialled, carried."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from ipaddress import ip_address
from queue import SimpleQueue

import pytest

from aegis_sdk.model import Network, NetworkEvent
from aegis_sdk.network.gateway import Gateway
from aegis_sdk.network.limits import Limits
from tests.outside_world import METADATA, PRIVATE, PUBLIC, PUBLIC_6, PUBLIC_TOO, web

NAMES = {
    "a.example": (PUBLIC,),
    "b.example": (PUBLIC_TOO, PUBLIC),
    "six.example": (PUBLIC_6,),
    "private.example": (PRIVATE,),
    "metadata.example": (METADATA,),
    "local.example": ("127.0.0.1", "::1"),
}


class Guest:
    """A guest, as its harness speaks."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.resets = gateway, 0

    def opens(self) -> socket.socket:
        here, there = socket.socketpair()
        here.settimeout(10)
        self.gateway.opened(there, self._reset)
        return here

    def asks(self, **words: object) -> dict[str, object]:
        with self.opens() as stream:
            return self._ask(stream, words)

    def resolves(self, name: str) -> list[str]:
        answer = self.asks(call="resolve", name=name)
        return answer.get("addresses", answer.get("unknown"))  # type: ignore[return-value]

    def connects(self, address: str, port: int) -> socket.socket:
        stream = self.opens()
        answer = self._ask(stream, {"call": "outgoing", "address": address, "port": port})
        if answer != {"connected": True}:
            stream.close()
            raise ConnectionRefusedError(answer)
        return stream

    def fetches(self, address: str, port: int = 80) -> bytes:
        with self.connects(address, port) as stream:
            stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: stream.recv(65536), b"")).partition(b"\r\n\r\n")[2]

    def events(self, count: int) -> tuple[NetworkEvent, ...]:
        """What was tried, as soon as there is so much of it: an event comes when its connection is over."""
        deadline = time.monotonic() + 10
        while len(self.gateway.events()) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.gateway.events()

    def _ask(self, stream: socket.socket, words: dict[str, object]) -> dict[str, object]:
        stream.sendall(json.dumps(words).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            part = stream.recv(1)
            assert part
            line += part
        return json.loads(line)  # type: ignore[no-any-return]

    def _reset(self) -> None:
        self.resets += 1


@pytest.fixture
def guest() -> Iterator[Callable[..., Guest]]:
    """Makes guests with a network of the caller's."""
    made: list[Gateway] = []

    def guest(*, limits: Limits | None = None, environ: dict[str, str] | None = None, **network: object) -> Guest:
        def lookup(name: str) -> tuple[object, ...]:
            return tuple(map(ip_address, NAMES.get(name, ())))

        shape = Network(**network)  # type: ignore[arg-type]
        made.append(Gateway(shape, environ=environ or {}, lookup=lookup, limits=limits))  # type: ignore[arg-type]
        return Guest(made[-1])

    yield guest
    for gateway in made:
        gateway.close()


def test_by_address_and_name(guest, outside):
    """What is public is reached, by IPv4 and IPv6, and the names of it are known."""
    for address in (PUBLIC, PUBLIC_6):
        outside.serve(address, 80, web(f"page of {address}"))
    guest = guest()
    assert guest.resolves("A.Example.") == [PUBLIC]
    assert guest.resolves("six.example") == [PUBLIC_6]
    assert guest.fetches(PUBLIC) == f"page of {PUBLIC}".encode()
    assert guest.fetches(PUBLIC_6) == f"page of {PUBLIC_6}".encode()
    assert [(event.name, event.allowed, event.received > 50) for event in guest.events(2)] == [
        ("a.example", True, True),
        ("six.example", True, True),
    ]


@pytest.mark.parametrize(
    "address", [PRIVATE, METADATA, "127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::ffff:10.99.0.7"]
)
def test_what_is_not_public_is_refused_at_once(guest, outside, address):
    """Also under a name that leads there; who serves there hears of nothing."""
    heard: list[object] = []
    for served in (PRIVATE, METADATA):
        outside.serve(served, 80, heard.append)
    guest = guest()
    guest.resolves("private.example")
    guest.resolves("metadata.example")
    start = time.monotonic()
    with pytest.raises(ConnectionRefusedError):
        guest.connects(address, 80)
    assert time.monotonic() - start < 5
    assert not heard
    (event,) = guest.events(1)
    assert not event.allowed


def test_only_what_a_list_allows(guest, outside):
    """A list of names: these are resolved and reached, nothing else is, not even the question leaves."""
    outside.serve(PUBLIC, 80, web("a"))
    guest = guest(allow=["a.example:80"])
    with pytest.raises(ConnectionRefusedError):
        guest.connects(PUBLIC, 80)  # not asked for by its name yet
    assert guest.resolves("six.example") is True
    assert guest.resolves("a.example") == [PUBLIC]
    assert guest.fetches(PUBLIC) == b"a"
    assert guest.events(3)
    with pytest.raises(ConnectionRefusedError):
        guest.connects(PUBLIC, 81)
    assert [(event.name, event.port, event.rule, event.remedy) for event in guest.events(4)] == [
        ("", 80, "none", f"{PUBLIC}:80"),
        ("six.example", 0, "none", "six.example"),
        ("a.example", 80, "a.example:80", ""),
        ("a.example", 81, "none", "a.example:81"),
    ]


def test_rebinding_gains_nothing(guest, outside, monkeypatch):
    """A name that leads elsewhere after it was judged is judged again: what is dialled is what is judged."""
    outside.serve(PRIVATE, 80, web("secret"))
    guest = guest(allow=["a.example"])
    assert guest.resolves("a.example") == [PUBLIC]
    monkeypatch.setitem(NAMES, "a.example", (PRIVATE,))
    assert guest.resolves("a.example") == [PRIVATE]
    with pytest.raises(ConnectionRefusedError, match="about public ones alone"):
        guest.connects(PRIVATE, 80)
    with pytest.raises(ConnectionRefusedError):
        guest.connects(PUBLIC, 80)  # it is a.example no more


def _answer_once(server: socket.socket) -> None:
    with server.accept()[0] as connected:
        web("mine")(connected)


def test_ports_of_this_machine(guest):
    """What is shared is reached under its name and port; nothing beside it is, nor its own address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        threading.Thread(target=_answer_once, args=(server,)).start()
        port = server.getsockname()[1]
        guest = guest(mode="none", allow_host={"db:5432": f"127.0.0.1:{port}"})
        (address,) = guest.resolves("db")
        assert guest.fetches(address, 5432) == b"mine"
        for wrong in ((address, port), ("127.0.0.1", port), ("198.18.0.9", 5432)):
            with pytest.raises(ConnectionRefusedError):
                guest.connects(*wrong)


def test_a_new_policy_decides_about_what_is_open_too(guest, outside):
    """What it allows goes on; what it does not is broken off on both sides, and the event says why."""
    seen: SimpleQueue[bytes | OSError] = SimpleQueue()

    def echo(connected: socket.socket) -> None:
        try:
            while data := connected.recv(9):
                connected.sendall(data)
            seen.put(b"")
        except OSError as error:
            seen.put(error)

    for address in (PUBLIC, PUBLIC_TOO):
        outside.serve(address, 7, echo)
    guest = guest()
    with guest.connects(PUBLIC, 7) as stays, guest.connects(PUBLIC_TOO, 7) as goes:
        guest.gateway.update(Network(allow=[PUBLIC]))
        assert goes.recv(9) == b""
        assert isinstance(seen.get(timeout=10), ConnectionResetError)
        with pytest.raises(ConnectionRefusedError):
            guest.connects(PUBLIC_TOO, 7)
        stays.sendall(b"still")
        assert stays.recv(9) == b"still"
        assert guest.resets == 1
    (event,) = (event for event in guest.events(3) if "no more" in event.error)
    assert (event.address, event.allowed) == (PUBLIC_TOO, True)


def test_half_close(guest, outside):
    """Each end of stream is passed on by itself, and all that was said before it."""

    def count(connected: socket.socket) -> None:
        total = 0
        while part := connected.recv(65536):
            total += len(part)
        connected.sendall(str(total).encode())

    outside.serve(PUBLIC, 9, count)
    with guest().connects(PUBLIC, 9) as stream:
        stream.sendall(b"x" * 3_000_000)
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(99) == b"3000000"
        assert stream.recv(99) == b""


def test_who_does_not_read_is_waited_for(guest, outside):
    """Back-pressure goes all the way, in both directions: little is kept between the two."""
    stop = threading.Event()
    outside.serve(PUBLIC, 9, lambda _: stop.wait(15))
    guest = guest()
    with guest.connects(PUBLIC, 9) as stream:
        stream.settimeout(1.0)
        sent = 0
        with suppress(TimeoutError):
            while sent < 32 << 20:
                sent += stream.send(b"x" * 65536)
        assert sent < 32 << 20
    stop.set()


def test_what_breaks_is_seen_as_broken(guest, outside):
    """A reset there is a reset in the guest, and not the end of what was said."""

    def breaks(connected: socket.socket) -> None:
        connected.recv(1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    outside.serve(PUBLIC, 9, breaks)
    guest = guest()
    with guest.connects(PUBLIC, 9) as stream:
        stream.sendall(b"xx")
        assert stream.recv(9) == b""
    assert guest.resets == 1
    assert guest.events(1)[0].error


def test_who_hangs_up_is_gone_there(guest, outside):
    """A guest's connection that breaks ends the one that was opened for it."""
    ended = threading.Event()

    def wait(connected: socket.socket) -> None:
        try:
            connected.recv(1)
        finally:
            ended.set()

    outside.serve(PUBLIC, 9, wait)
    guest().connects(PUBLIC, 9).close()
    assert ended.wait(10)


def test_nobody_listens(guest, outside):
    """The error there is the error here."""
    guest = guest()
    answer = guest.asks(call="outgoing", address=PUBLIC, port=4)
    assert answer == {"error": "Connection refused", "errno": "ECONNREFUSED"}
    (event,) = guest.events(1)
    assert (event.allowed, event.error) == (True, "Connection refused")


def test_a_resolver_that_hangs_hurts_who_asks():
    """Its name fails in time, others go on, and the gateway ends although the resolver does not."""
    stuck = threading.Event()

    def lookup(_name: str) -> tuple[()]:
        stuck.wait(15)
        return ()

    gateway = Gateway(Network(), environ={}, lookup=lookup, limits=Limits(lookup=0.3, lookups=1))
    with closing(gateway):
        answer = Guest(gateway).asks(call="resolve", name="a.example")
        assert answer["unknown"] is False
        assert "cannot be resolved" in str(answer["error"])
        assert Guest(gateway).asks(call="outgoing", address="127.0.0.1", port=1)["errno"] == "ECONNREFUSED"
    stuck.set()


def test_limits(guest, outside):
    """More than so many at once, or in so short a time, are refused at once."""
    outside.serve(PUBLIC, 9, lambda connected: connected.recv(1))
    guest_of_two = guest(limits=Limits(connections=2))
    open_ones = [guest_of_two.connects(PUBLIC, 9) for _ in range(2)]
    with pytest.raises(ConnectionRefusedError, match="too many"):
        guest_of_two.connects(PUBLIC, 9)
    for stream in open_ones:
        stream.close()
    hasty = guest(limits=Limits(rate=0.001, burst=2))
    answers = [hasty.asks(call="resolve", name="a.example") for _ in range(3)]
    assert ["addresses" in answer for answer in answers] == [True, True, False]


@pytest.mark.parametrize(
    "data",
    [
        *(b"\n", b"{}\n", b"[]\n", b"null\n", b"\xff\n", b"x" * 20_000, b"[" * 4000 + b"\n", b'{"call": "resolve"}\n'),
        *(
            b'{"call": "outgoing", "address": "1.1.1.1"}\n',
            b'{"call": "outgoing", "address": "1.1.1.1", "port": true}\n',
        ),
        *(
            b'{"call": "outgoing", "address": "1.1.1.1", "port": 0}\n',
            b'{"call": "outgoing", "address": 5, "port": 5}\n',
        ),
        *(b'{"call": "outgoing", "address": "fe80::1%lo", "port": 5}\n', b'{"call": "resolve", "name": "a", "x": 1}\n'),
        *(
            b'{"call": "outgoing", "address": "0177.0.0.1", "port": 5}\n',
            b'{"call": "outgoing", "address": "a", "port": 5}\n',
        ),
    ],
)
def test_nonsense(guest, data):
    """What cannot be understood is hung up on, and leaves no trace."""
    guest = guest()
    with guest.opens() as stream:
        stream.sendall(data)
        with suppress(ConnectionResetError):
            assert stream.recv(99) == b""
    assert not guest.gateway.events()
    assert guest.resolves("a.example") == [PUBLIC]


@pytest.mark.parametrize("name", ["", "a b", "x" * 300, "-", "a..b", "1.2.3.4", "0x7f.1", "\ud800", "a\0.example"])
def test_names_that_are_none(guest, name):
    """What cannot be a name is unknown, and nobody is asked."""
    assert guest().resolves(name) is True


def test_closing_ends_all(guest, outside):
    """A guest's end ends its connections, there and here, and the thread."""
    outside.serve(PUBLIC, 9, lambda connected: connected.recv(1))
    guest = guest()
    stream = guest.connects(PUBLIC, 9)
    guest.gateway.close()
    assert stream.recv(1) == b""
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "aegis-gateway"]
    with guest.opens() as late:
        assert late.recv(1) == b""
    guest.gateway.update(Network(mode="none"))  # for its next boot, as of a kept sandbox that is stopped
