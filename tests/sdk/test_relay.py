"""What a guest's connections cost the host."""

from __future__ import annotations

import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from aegis_sdk.drivers.reactor import Reactor
from aegis_sdk.drivers.relay import Relay
from tests.conftest import until

_HEADER = struct.Struct(">BBHII")
_DATA, _WINDOW_UPDATE, _SYN, _ACK, _RST = 0, 1, 1, 2, 8


class Kept:
    """An outlet that keeps all that it is given, and says nothing."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []
        self.resets: list[Callable[[], object]] = []

    def opened(self, connection: socket.socket, reset: Callable[[], object]) -> None:
        self.resets.append(reset)
        self.connections.append(connection)

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, Kept]]:
    """A guest's port, and who gets the connections that it opens."""
    kept, (guest, port) = Kept(), socket.socketpair()
    reactor = Reactor(tick=60.0, on_tick=lambda: None)
    relay = Relay(reactor, kept)
    relay.carry(port)
    thread = threading.Thread(target=reactor.run)
    thread.start()
    with guest:
        guest.settimeout(10)
        yield guest, kept
        reactor.ask(reactor.stop)
        thread.join(10)
        relay.close()
        kept.close()


def opens(guest: socket.socket, count: int) -> None:
    guest.sendall(b"".join(_HEADER.pack(0, _WINDOW_UPDATE, _SYN, 2 * n, 0) for n in range(1, count + 1)))


def heard(guest: socket.socket) -> tuple[int, int, bytes]:
    """Kind, flags and payload of the next frame."""
    _, kind, flags, _, length = _HEADER.unpack(_exactly(guest, _HEADER.size))
    return kind, flags, _exactly(guest, length) if kind == _DATA else b""


def _exactly(guest: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += guest.recv(count - len(data))
    return data


def test_connections_leave_descriptors_for_others(ends, monkeypatch):
    """Of this process's descriptors a guest gets a part, however many connections it opens; more are reset."""
    guest, kept = ends
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    opens(guest, 40)
    assert sum(heard(guest)[1] == _RST for _ in range(40 + 24)) == 24
    assert len(kept.connections) == 16


def test_a_reset_comes_behind_what_was_said(ends):
    """Who breaks a connection that it has said something on cuts off nothing of that."""
    guest, kept = ends
    opens(guest, 1)
    assert heard(guest) == (_WINDOW_UPDATE, _ACK, b"")
    assert until(lambda: kept.connections, 5)
    (connection,) = kept.connections
    connection.sendall(b"x" * 300_000)
    said = b""
    while len(said) < 256 << 10:  # there is room for no more
        said += heard(guest)[2]
    kept.resets[0]()
    connection.close()
    guest.sendall(_HEADER.pack(0, _WINDOW_UPDATE, 0, 2, 256 << 10))
    while (frame := heard(guest))[0] == _DATA:
        said += frame[2]
    assert (len(said), frame[1]) == (300_000, _RST)
