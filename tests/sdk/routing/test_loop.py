"""The router's event loop: who watches a socket is called, and nobody who does not any more."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from aegis_sdk.routing.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    made = [socket.socketpair() for _ in range(2)]
    yield made
    for pair in made:
        for end in pair:
            end.close()


def test_a_watch_that_ended_in_the_same_round_is_not_called(
    loop: Loop, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    """Of two sockets that are ready at once, the first called ends the other's watch: that one is called no more."""
    ends, called = [pair[0] for pair in pairs], []

    def first(own: socket.socket) -> None:
        called.append(own)
        for end in ends:
            assert loop.remove_reader(end)
        loop.stop()

    for end, (_, other) in zip(ends, pairs, strict=True):
        loop.add_reader(end, first, end)
        other.send(b"x")
    loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert len(called) == 1
    assert not loop.remove_reader(ends[0])


def test_a_watcher_that_fails_stops_nobody_else(loop: Loop, pairs: list[tuple[socket.socket, socket.socket]]) -> None:
    """What one watcher raises is told to the loop's handler, and the others are called all the same."""
    told: list[Any] = []
    (broken, one), (sound, other) = pairs

    def fail() -> None:
        loop.remove_reader(broken)
        raise ValueError("of its own")

    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    loop.add_reader(broken, fail)
    loop.add_reader(sound, loop.stop)
    one.send(b"x")
    other.send(b"x")
    loop.run_forever()
    assert [str(error) for error in told] == ["of its own"]


def test_both_directions_of_a_socket_are_watched_apart(
    loop: Loop, pairs: list[tuple[socket.socket, socket.socket]]
) -> None:
    """Reading goes on when writing is watched no more."""
    (end, other), called = pairs[0], []

    def write() -> None:
        called.append("written")
        loop.remove_writer(end)
        other.send(b"x")

    def read() -> None:
        called.append("read")
        loop.stop()

    loop.add_reader(end, read)
    loop.add_writer(end, write)
    loop.run_forever()
    assert called == ["written", "read"]
    assert loop.remove_reader(end)
