"""A guest that says whatever it is told to, on the connection of one file call."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import attrs

import aegis_sdk as aegis
from aegis_sdk.guest.channel import HEADER, Channel
from aegis_sdk.guest.files import Entry, FileCall, Kind


@attrs.define
class Fake:
    """The call to such a guest, what it was sent, and whether it was ended for breaking the protocol."""

    call: FileCall
    received: bytearray = attrs.field(factory=bytearray)
    ended: list[bool] = attrs.field(factory=list)


def frame(kind: int, payload: bytes = b"") -> bytes:
    """One frame as a guest sends it."""
    return HEADER.pack(kind, len(payload)) + payload


def entry(kind: str, name: bytes, *, mode: int = 0o644, target: bytes = b"") -> bytes:
    """The frame of a thing in a directory."""
    return frame(Kind.ENTRY, Entry(kind, mode, name=name, target=target).encode())  # type: ignore[arg-type]


@contextmanager
def guest(said: bytes, *, answers: tuple[bytes, ...] = (), listens: bool = True, stays: bool = False) -> Iterator[Fake]:
    """A guest that says *said*, and one of *answers* to each question; then it hangs up, unless it *stays*."""
    ours, theirs = socket.socketpair()
    received, ended = bytearray(), [False]

    def speak() -> None:
        with suppress(OSError):
            theirs.sendall(said)
            if not answers and not stays:
                theirs.shutdown(socket.SHUT_WR)

    def listen() -> None:
        left = iter(answers)
        with suppress(OSError):
            while listens and (data := theirs.recv(1 << 16)):
                received.extend(data)
                if data.startswith(b"{"):  # the call
                    data = data.partition(b"\n")[2]
                if data:
                    theirs.sendall(next(left, b""))

    def violated() -> None:
        ended[0] = True

    threads = [threading.Thread(target=work) for work in (speak, listen)]
    for thread in threads:
        thread.start()
    call = FileCall(
        Channel(ours),
        {"op": "download", "path": "/x"},
        on_loss=lambda: aegis.SandboxClosed("the guest has hung up"),
        on_violation=violated,
    )
    try:
        yield Fake(call, received, ended)
    finally:
        call.close()
        for thread in threads:
            thread.join()
        theirs.close()
