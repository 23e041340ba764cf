"""Servers of several kinds in one process of a guest, on ports from 7001; prints ``ready`` when all of them listen."""

from __future__ import annotations

import hashlib
import socket
import time
from _thread import start_new_thread  # threading takes a guest as long to read as all the rest
from collections.abc import Callable
from contextlib import suppress

PIECE = bytes(range(256)) * 256


def echo(connection: socket.socket) -> None:
    """Say everything again, and then no more."""
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def first(connection: socket.socket) -> None:
    """Speak first, and no more; then hear all, and print it."""
    connection.sendall(b"first")
    connection.shutdown(socket.SHUT_WR)
    heard = b""
    while data := connection.recv(1 << 16):
        heard += data
    print("heard", heard.decode(), flush=True)


def pour(connection: socket.socket) -> None:
    """As many bytes as the first line says."""
    left = int(connection.recv(100))
    while left:
        connection.sendall(PIECE[:left])
        left -= len(PIECE[:left])


def drink(connection: socket.socket) -> None:
    """Hear all, and then say what it was."""
    digest = hashlib.sha256()
    while data := connection.recv(1 << 16):
        digest.update(data)
    connection.sendall(digest.hexdigest().encode())


def deaf(_connection: socket.socket) -> None:
    """Hear nothing."""
    time.sleep(3600)


def serve(family: int, address: str, port: int, handle: Callable[[socket.socket], None]) -> None:
    """Have each connection to that address handled by a thread of its own."""
    listener = socket.socket(family)
    listener.bind((address, port))
    listener.listen(1024)
    start_new_thread(accept, (listener, handle))


def accept(listener: socket.socket, handle: Callable[[socket.socket], None]) -> None:
    """Take connections for ever."""
    while True:
        start_new_thread(attend, (listener.accept()[0], handle))


def attend(connection: socket.socket, handle: Callable[[socket.socket], None]) -> None:
    """One connection, to its end."""
    with connection, suppress(OSError):  # the other side may be faster
        handle(connection)


for number, kind in enumerate((echo, first, pour, drink, deaf), 7001):
    serve(socket.AF_INET, "127.0.0.1", number, kind)
serve(socket.AF_INET6, "::1", 7006, echo)
serve(socket.AF_INET, "0.0.0.0", 7007, echo)
serve(socket.AF_INET, "127.0.0.5", 7008, echo)
print("ready", flush=True)
time.sleep(3600)
