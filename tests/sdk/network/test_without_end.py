"""What never comes to an end, or cannot begin: it costs the host little, and others nothing."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import closing, suppress

from aegis_sdk.model import Network
from aegis_sdk.network.gateway import Gateway
from aegis_sdk.network.limits import Limits
from tests.outside_world import PUBLIC
from tests.sdk.network.test_gateway import Guest, guest

__all__ = ["guest"]


def test_a_resolver_that_hangs_has_no_thread_upon_thread():
    """What is given up goes on: there are never more threads than may ask at once, whoever waits."""
    stuck = threading.Event()

    def lookup(_name: str) -> tuple[()]:
        stuck.wait(15)
        return ()

    with closing(Gateway(Network(), environ={}, lookup=lookup, limits=Limits(lookup=0.3, lookups=2))) as gateway:
        asking = [Guest(gateway).opens() for _ in range(12)]
        for number, stream in enumerate(asking):
            stream.sendall(json.dumps({"call": "resolve", "name": f"n{number}.example"}).encode() + b"\n")
            time.sleep(0.05)  # so that their times are up one after the other
        assert all(b"cannot be resolved" in stream.recv(999) for stream in asking)
        assert sum(thread.name == "aegis-lookup" for thread in threading.enumerate()) == 2
        stuck.set()
        assert Guest(gateway).resolves("a.example") == []
        for stream in asking:
            stream.close()


def test_who_has_said_all_does_not_wait_for_ever(guest, outside):
    """A guest that is gone may look like one that waits: without an answer for long, both sides are reset."""
    ended = threading.Event()

    def hangs(connected: socket.socket) -> None:
        connected.recv(9)
        ended.wait(15)

    outside.serve(PUBLIC, 9, hangs)
    guest = guest(limits=Limits(parting=0.3))
    with guest.connects(PUBLIC, 9) as stream:
        stream.sendall(b"x")
        stream.shutdown(socket.SHUT_WR)
        assert stream.recv(9) == b""
    ended.set()
    assert guest.resets == 1
    assert guest.events(1)[0].error == "no answer came in 0.3 s after the guest had said all"


def test_a_slow_answer_comes_whole(guest, outside):
    """Who has said all waits as long as there comes more."""

    def dribbles(connected: socket.socket) -> None:
        connected.recv(9)
        for _ in range(8):
            connected.sendall(b"x")
            time.sleep(0.15)

    outside.serve(PUBLIC, 9, dribbles)
    guest = guest(limits=Limits(parting=0.6))
    with guest.connects(PUBLIC, 9) as stream:
        stream.sendall(b"x")
        stream.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: stream.recv(9), b"")) == b"x" * 8
    assert not guest.events(1)[0].error


def test_last_words_are_heard(guest, outside):
    """What a server says before it hangs up on an upload comes whole, as it does without us, and then the reset."""

    def refuses(connected: socket.socket) -> None:
        connected.recv(1)
        connected.sendall(b"too large")

    outside.serve(PUBLIC, 9, refuses)
    guest = guest()
    for _ in range(20):
        with guest.connects(PUBLIC, 9) as stream:
            with suppress(OSError):
                for _ in range(8):
                    stream.sendall(b"x" * 65536)
            assert stream.recv(99) == b"too large"
    assert guest.events(20)[0].received == len(b"too large")


def test_no_thread_left(guest, monkeypatch):
    """Where none can be started the guest's connection is hung up on, and the next is served."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    guest = guest()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with guest.opens() as stream:
            assert stream.recv(9) == b""
    with monkeypatch.context() as patch:
        guest.resolves("-")  # which needs the gateway's thread alone
        patch.setattr(threading.Thread, "start", refused)
        answer = guest.asks(call="resolve", name="a.example")
        assert (answer["unknown"], "can't start new thread" in str(answer["error"])) == (False, True)
    assert guest.resolves("a.example") == [PUBLIC]
