"""Tries to reach the host from a guest, and prints how often it tried and what it reached, as JSON.

    reach.py PORT SPARE HOST...

A server of the host listens on PORT, nobody on SPARE; HOSTs are addresses that may be the host's.
"""

import json
import socket
import struct
import sys
from contextlib import suppress

PORT, SPARE, HOSTS = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
CIDS = (0, 1, 2, 3, 0xFFFFFFFF)  # linux/vm_sockets.h: 0 is the hypervisor, 1 this guest, 2 the host
PORTS = (PORT, 1, 22, 620, 1023, 1024, 1025, 1029, 8099)
# To libkrun, that it make a socket in the host, connect it, or have it listen (TSI; af_tsi.h of libkrunfw's kernels).
CREATE, CONNECT, LISTEN = 1024, 1025, 1029

reached: list[str] = []
tried = 0


def attempt(name: str, family: int, kind: int, address: tuple[object, int]) -> None:
    """Connect, and send something."""
    global tried  # noqa: PLW0603
    tried += 1
    with suppress(OSError), socket.socket(family, kind) as one:
        one.settimeout(0.3)
        one.connect(address)  # refused, or never answered
        if kind == socket.SOCK_STREAM:
            reached.append(name)
        one.send(b"proof")


def address(port: int) -> bytes:
    """The host's loopback, as a C program has it."""
    return struct.pack("=HH4s", socket.AF_INET, socket.htons(port), socket.inet_aton("127.0.0.1")).ljust(128, b"\0")


def ask_libkrun() -> None:
    """Have libkrun make one socket that calls PORT, and one that listens on SPARE."""
    global tried  # noqa: PLW0603
    caller, listener = 4321, 4322
    with socket.socket(socket.AF_VSOCK, socket.SOCK_DGRAM) as one:
        one.settimeout(1)
        for number, message in (
            (CREATE, struct.pack("=IHH", caller, socket.AF_INET, socket.SOCK_STREAM)),
            (CREATE, struct.pack("=IHH", listener, socket.AF_INET, socket.SOCK_STREAM)),
            (CONNECT, struct.pack("=II", caller, 16) + address(PORT)),
            (LISTEN, struct.pack("=IIII", listener, listener, 1, 16) + address(SPARE)),
        ):
            tried += 1
            with suppress(OSError):
                one.sendto(message, (2, number))
        with suppress(OSError):
            reached.append(f"an answer of libkrun's: {one.recv(1000)!r}")


for cid in CIDS:
    for port in PORTS:
        attempt(f"vsock {cid}:{port}", socket.AF_VSOCK, socket.SOCK_STREAM, (cid, port))
for host in HOSTS:
    attempt(f"tcp {host}", socket.AF_INET, socket.SOCK_STREAM, (host, PORT))
    attempt(f"udp {host}", socket.AF_INET, socket.SOCK_DGRAM, (host, PORT))
attempt("tcp ::1", socket.AF_INET6, socket.SOCK_STREAM, ("::1", PORT))
with suppress(OSError):
    ask_libkrun()
print(json.dumps([tried, reached]))
