"""What a hostile guest answers when it is asked for its ports and its activity: it is checked, and never waited for."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

import aegis_sdk as aegis
from aegis_sdk.errors import ProtocolViolation
from aegis_sdk.guest import ports
from aegis_sdk.guest.activity import Activity, activity
from aegis_sdk.guest.channel import Channel


@contextmanager
def saying(*pieces: bytes, pause: float = 0.0, stays: bool = False) -> Iterator[socket.socket]:
    """A connection to a guest that says this, one piece after the other, and then hangs up, unless it *stays*."""
    ours, theirs = socket.socketpair()

    def say() -> None:
        with suppress(OSError):
            theirs.recv(1 << 16)
            for piece in pieces:
                theirs.sendall(piece)
                time.sleep(pause)
            if not stays:
                theirs.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=say)
    thread.start()
    with ours, theirs:
        yield ours
        ours.shutdown(socket.SHUT_RDWR)
        thread.join()


def line(**words: object) -> bytes:
    return json.dumps(words).encode() + b"\n"


def test_what_comes_behind_the_answer_is_the_servers():
    """Not a byte of it is taken, in whatever pieces all comes."""
    said = line(connected=True) + b"220 hello\n"
    for pieces in ([said], [said[:5], said[5:]], [bytes([byte]) for byte in said]):
        with saying(*pieces) as machine:
            assert ports.connect(machine, 25, timeout=5) is machine
            got = b""
            while piece := machine.recv(100):
                got += piece
            assert got == b"220 hello\n"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", ConnectionAbortedError),
        (b'{"connected"', ConnectionAbortedError),
        (b"x" * 5000, ProtocolViolation),
        (b"{" * 4000 + b"\n", ProtocolViolation),
        (b"[" * 4000 + b"\n", ProtocolViolation),
        (b"\xff\n", ProtocolViolation),
        (b"[]\n", ProtocolViolation),
        (line(connected="yes"), ProtocolViolation),
        (line(connected=1), ProtocolViolation),
        (line(error=5), ProtocolViolation),
        (line(error="no more\x1b[2Jports"), OSError),
        (line(error="refused", refused=True), ConnectionRefusedError),
    ],
)
def test_a_hostile_answer_to_connect(said, error):
    """It is an error, in words that are safe to show."""
    with saying(said) as machine, pytest.raises(error) as raised:
        ports.connect(machine, 80, timeout=5)
    assert "\x1b" not in str(raised.value)


@pytest.mark.parametrize("pieces", [(), (b" ",) * 40])
def test_no_answer(pieces):
    """A guest that says nothing, or ever so little, costs the time that was given, and no more."""
    begin = time.monotonic()
    with saying(*pieces, pause=0.05, stays=True) as machine, pytest.raises(TimeoutError):
        ports.connect(machine, 80, timeout=0.3)
    assert time.monotonic() - begin < 5


def _listening(*listed: object, reason: str = "elsewhere") -> bytes:
    return line(event="serverFailed", reason=reason, listening=listed)


@pytest.mark.parametrize(
    "said",
    [
        b"no\n",
        line(event="serverReady"),
        line(event="serverReady", seconds=-1),
        line(event="serverReady", seconds=float("nan")),
        line(event="other"),
        line(event="serverFailed", reason="exited"),
        line(event="serverFailed", reason="exited", code=1000),
        line(event="serverFailed", reason="elsewhere"),
        _listening(*[{"address": "::", "port": 1}] * 65),
        _listening(5),
        _listening({"address": "example.org", "port": 80}),
        _listening({"address": "127.0.0.1", "port": "80"}),
        _listening({"address": "127.0.0.1", "port": -1}),
        _listening({"port": 80}),
    ],
)
def test_a_hostile_answer_to_ready(said):
    """It is a violation of the protocol."""
    with saying(said) as machine, pytest.raises(ProtocolViolation):
        ports.ready(Channel(machine), "x", 80, interval=0.1, timeout=1)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            line(event="serverFailed", reason="exited", code=137, signal=9, oom=True),
            "ran out of memory, and was killed",
        ),
        (
            line(event="serverFailed", reason="failed", code=127, message="x: no such file"),
            "the server could not be started: x: no such file",
        ),
        (line(event="serverFailed", reason="exited", code=143, signal=15), "the server was killed by SIGTERM before"),
        (
            _listening({"address": "0:0:0:0:0:0:0:0", "port": 80, "own": True}, reason="unreachable"),
            "the server listens on [::]:80, but takes no connections there",
        ),
        (
            _listening({"address": "fe80:0:0:0:0:0:0:1", "port": 80, "own": True}, reason="unreachable"),
            "the server listens on [fe80::1]:80, where it cannot be reached",
        ),
        (_listening(reason="never"), "the server has not opened port 80 within 1 s, nor any other"),
    ],
)
def test_why_a_server_is_not_ready(said, words):
    """What the guest has seen is said in words."""
    with saying(said) as machine, pytest.raises(aegis.ServerFailed) as failed:
        ports.ready(Channel(machine), "x", 80, interval=0.1, timeout=1)
    assert words in str(failed.value)


def test_hanging_up_ends_the_wait():
    """Another thread may end the wait for a server at any moment."""
    with saying(stays=True) as machine:
        channel = Channel(machine)
        timer = threading.Timer(0.2, channel.hang_up)
        timer.start()
        with pytest.raises(EOFError):
            ports.ready(channel, "x", 80, interval=0.1, timeout=60)
        timer.join()


WORDS = {"cpu_ms": 1500, "connections": 2, "commands": 1, "keepalive": 300.0}


def test_activity():
    """What a guest says of itself becomes a value."""
    with saying(line(**WORDS)) as machine:
        said = activity(Channel(machine), deadline=time.monotonic() + 5)
    assert said == Activity(cpu=1.5, connections=2, commands=1, keepalive=300.0)


@pytest.mark.parametrize(
    "words",
    [
        {"cpu_ms": -1},
        {"cpu_ms": 1e300},
        {"cpu_ms": True},
        {"connections": 1 << 40},
        {"connections": 0.5},
        {"commands": None},
        {"keepalive": float("inf")},
        {"keepalive": 86_500},
        {"keepalive": "300"},
    ],
)
def test_hostile_activity(words):
    """No number is believed that cannot be."""
    with saying(line(**{**WORDS, **words})) as machine, pytest.raises(ProtocolViolation):
        activity(Channel(machine), deadline=time.monotonic() + 5)
