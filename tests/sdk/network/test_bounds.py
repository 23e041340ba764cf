"""What one guest's connections may cost this machine."""

from __future__ import annotations

import resource
import socket
import threading
import time
from contextlib import closing

from aegis_sdk.model import Network
from aegis_sdk.network.gateway import Gateway
from aegis_sdk.network.limits import Limits
from tests.conftest import until
from tests.outside_world import PRIVATE, PUBLIC
from tests.sdk.network.test_gateway import Guest

_MIB = 1 << 20


def _echo(connected: socket.socket) -> None:
    while data := connected.recv(1 << 16):
        connected.sendall(data)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_much_through_one_connection_takes_no_memory(outside):
    """Hundreds of MiB there and back: whole, and no more of it is kept than a few pieces."""
    outside.serve(PUBLIC, 7, _echo)
    piece, count = bytes(range(256)) * 4096, 256
    with closing(Gateway(Network(), environ={})) as gateway, Guest(gateway).connects(PUBLIC, 7) as stream:

        def send() -> None:
            for _ in range(count):
                stream.sendall(piece)

        sending, before = threading.Thread(target=send), _peak()
        sending.start()
        with stream.makefile("rb") as reading:
            assert all(reading.read(len(piece)) == piece for _ in range(count))
        sending.join()
        assert _peak() - before < 32 * _MIB


def test_what_is_remembered_is_bounded():
    """Thousands of refusals and of names: the last are told of, the oldest forgotten, and it takes little memory."""
    fast = Limits(rate=1e6, burst=1_000_000)
    with closing(Gateway(Network(mode="none", allow=["a.example"]), environ={}, limits=fast)) as gateway:
        guest = Guest(gateway)
        for number in range(1100):
            assert guest.resolves(f"{'x' * 60}.{number}.example") is True
        assert len(gateway.events()) == 1000
        assert gateway.events()[-1].name.endswith(".1099.example")


def test_who_asks_and_says_nothing(outside):
    """A guest that opens connections and is silent is hung up on, and what others do goes on meanwhile."""
    outside.serve(PUBLIC, 7, _echo)
    with closing(Gateway(Network(), environ={}, limits=Limits(asked=0.5, connections=60))) as gateway:
        guest = Guest(gateway)
        silent = [guest.opens() for _ in range(50)]
        with guest.connects(PUBLIC, 7) as stream:
            stream.sendall(b"hello")
            assert stream.recv(9) == b"hello"
        assert all(each.recv(1) == b"" for each in silent)
        for each in silent:
            each.close()
        assert not [event for event in gateway.events() if not event.allowed]


def test_beyond_the_limits_it_is_refused_at_once(outside):
    """Who has all connections that there may be is refused another in a moment, and has one as soon as one ends."""
    outside.serve(PUBLIC, 7, _echo)
    with closing(Gateway(Network(), environ={}, limits=Limits(connections=3))) as gateway:
        guest = Guest(gateway)
        held = [guest.connects(PUBLIC, 7) for _ in range(3)]
        start = time.monotonic()
        answers = [guest.asks(call="outgoing", address=PUBLIC, port=7) for _ in range(100)]
        assert {answer["errno"] for answer in answers} == {"ECONNREFUSED"}
        assert time.monotonic() - start < 5
        held.pop().close()
        assert until(lambda: "many" not in str(guest.asks(call="outgoing", address=PRIVATE, port=7)), 5)
        for each in held:
            each.close()
