"""A guest's connections to a server on the host; against QEMU's own user networking, with a card in the guest."""

from __future__ import annotations

import socket
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import attrs

import aegis_sdk as aegis
from benchmarks.floor import Floor, Ground, compiled

_SIZE = 64 << 20
_CONNECTIONS = 100
_ROUNDS = 5
_Answer = Callable[[socket.socket], object]
_HOST = "10.0.2.2"  # as QEMU's user networking calls this machine's loopback


@attrs.frozen
class Rate:
    """What a guest did in a second: by Aegis, by QEMU's card, and, if it is bytes, over the bare port."""

    ours: float
    card: float
    port: float


def down(ground: Ground) -> Rate:
    """MB a second that a guest reads from one connection."""
    return _bytes(ground, "down", _give, Floor.take)


def up(ground: Ground) -> Rate:
    """MB a second that a guest writes to one connection."""
    return _bytes(ground, "up", _take, Floor.pour)


def connections(ground: Ground) -> Rate:
    """Connections a second that a guest opens, one after another, each to its end."""
    with _server(lambda _connected: None) as port:
        ours, cards = _measure(ground, "connect", port, _CONNECTIONS)
    return Rate(_CONNECTIONS / ours, _CONNECTIONS / cards, 0)


def _bytes(ground: Ground, what: str, answer: _Answer, over_port: Callable[[Floor, int], float]) -> Rate:
    with _server(answer) as port:
        ours, card = _measure(ground, what, port, _SIZE)
    with ground.boot() as floor:
        bare = statistics.median(over_port(floor, _SIZE) for _ in range(_ROUNDS))
    return Rate(_SIZE / ours / 1e6, _SIZE / card / 1e6, _SIZE / bare / 1e6)


def _measure(ground: Ground, what: str, port: int, count: int) -> tuple[float, float]:
    """Seconds of each way, which take turns."""
    ours, cards = [], []
    network = aegis.Network(mode="none", allow_host={"host": f"127.0.0.1:{port}"})
    with ground.boot(card=True) as floor, aegis.Sandbox(network=network) as vm:
        vm.files.upload(compiled("reach"), "/tmp/reach")  # the guest's
        for _ in range(_ROUNDS):
            cards.append(_ordered(floor, f"{what} {_HOST}:{port} {count}\n"))
            ours.append(float(vm.run("/tmp/reach", what, f"host:{port}", str(count), check=True).stdout))
    return statistics.median(ours), statistics.median(cards)


def _ordered(floor: Floor, words: str) -> float:
    floor.port.sendall(words.encode())
    answer = b""
    while not answer.endswith(b"\n"):
        answer += floor.port.recv(4096)
    try:
        return float(answer)
    except ValueError:
        raise SystemExit(f"by QEMU's user networking: {answer.decode()}") from None


def _give(connected: socket.socket) -> None:
    piece = bytes(1 << 20)
    for _ in range(_SIZE >> 20):
        connected.sendall(piece)


def _take(connected: socket.socket) -> None:
    room = bytearray(1 << 20)
    while connected.recv_into(room):
        pass
    connected.sendall(b".")


@contextmanager
def _server(answer: _Answer) -> Iterator[int]:
    """The port of a server on the loopback that gives each connection to *answer*, and closes it then."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connected, _ = listening.accept()
                    with connected, suppress(OSError):
                        answer(connected)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()
