"""TCP ports that are declared: raw bytes, which wake the app, too."""

from __future__ import annotations

import socket
import threading

import pytest

import aegis_sdk as aegis
from tests.conftest import until
from tests.sdk.routing.apps import connected, exactly, rest


def _echo(connection: socket.socket) -> None:
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def test_raw_bytes(world, router):
    """A client that opens the port talks to the app's, which has been woken; it is in use until both have ended."""
    db = world.add("db", _echo, first=5432, awake=False)
    port = router.expose("db", 5432)
    with connected(port) as client:
        client.sendall(b"\0\xffno HTTP\n")
        assert exactly(client, 10) == b"\0\xffno HTTP\n"
        assert world.held[db] == 1
        client.shutdown(socket.SHUT_WR)
        assert rest(client) == b""
    assert world.calls == ["wake db-v1", "dial db-v1:5432"]
    assert until(lambda: not world.held[db], 5)


def _send(client: socket.socket, all_: bytes) -> None:
    client.sendall(all_)
    client.shutdown(socket.SHUT_WR)


def test_much(world, router):
    """Megabytes go both ways at once, and all of them arrive."""
    world.add("db", _echo, first=5432)
    with connected(router.expose("db", 5432)) as client:
        sent = bytes(range(256)) * (1 << 15)
        sender = threading.Thread(target=_send, args=(client, sent))
        sender.start()
        assert rest(client) == sent
        sender.join()


@pytest.mark.parametrize("end", ["close", "reset"])
def test_who_leaves(world, router, end):
    """A client that leaves ends the app's connection, however it leaves."""
    ended = threading.Event()

    def talk(connection: socket.socket) -> None:
        rest(connection)
        ended.set()

    db = world.add("db", talk, first=5432)
    with connected(router.expose("db", 5432)) as client:
        assert until(lambda: "dial db-v1:5432" in world.calls, 5)
        if end == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert ended.wait(5)
    assert until(lambda: not world.held[db], 5)


def test_an_app_that_leaves(world, router):
    """An app that hangs up ends the client's connection, after all that it said."""
    world.add("db", lambda connection: connection.sendall(b"goodbye"), first=5432)
    with connected(router.expose("db", 5432)) as client:
        assert rest(client) == b"goodbye"


@pytest.mark.parametrize("case", ["no app", "not served", "no wake", "no dial"])
def test_what_cannot_be_reached(world, router, case):
    """A connection that leads nowhere is closed."""
    if case != "no app":
        world.add("db", _echo, first=5432, awake=case != "no wake")
    if case == "not served":
        world.apps["db"] = aegis.ServedApp(id="x", name="db")

    def fail(*_: object, **__: object) -> None:
        raise aegis.BootFailed("no")

    world.waking = fail
    if case == "no dial":
        world.dial = fail
    with connected(router.expose("db", 5432)) as client:
        assert rest(client) == b""
    assert until(lambda: not world.held.total(), 5)


def test_declaring(world, router):
    """A port is the one that was asked for, is refused while something else has it, and free once it is concealed."""
    world.add("db", _echo, first=5432)
    port = router.expose("db", 5432)
    with pytest.raises(aegis.PortTaken):
        router.expose("db", 5432, at=port)
    with connected(port) as client:
        client.sendall(b"x")
        assert exactly(client, 1) == b"x"
        router.conceal(port)
        with pytest.raises(ConnectionRefusedError), connected(port):
            pass
        client.sendall(b"y")
        assert exactly(client, 1) == b"y"
    assert router.expose("db", 5432, at=port) == port
    router.conceal(router.port)  # which is HTTP's, and stays
    with connected(router.port):
        pass


def test_who_makes_room(world, route):
    """Where there are as many clients as may be, one that has long been silent gives way, and no other."""
    world.add("db", _echo, first=5432)
    port = route(connections=2, silence=1.0).expose("db", 5432)
    with connected(port) as silent, connected(port) as busy:
        for client in (silent, busy):
            assert _echoes(client)
        assert not _welcomed(port)
        assert until(lambda: _echoes(busy) and _welcomed(port), 10)
        assert rest(silent) == b""
        assert _echoes(busy)


def _welcomed(port: int) -> bool:
    with connected(port) as client:
        return _echoes(client)


def _echoes(client: socket.socket) -> bool:
    try:
        client.sendall(b"x")
        return client.recv(1) == b"x"
    except ConnectionError:
        return False
