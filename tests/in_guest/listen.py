"""Listens on a port, in every way that a guest can.

listen.py PORT
"""

import socket
import sys
import time

PORT = int(sys.argv[1])
ANYWHERE = 0xFFFFFFFF  # VMADDR_CID_ANY


def main() -> None:
    """Listen, say so, and stay."""
    four, six = socket.socket(socket.AF_INET), socket.socket(socket.AF_INET6)
    six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    ways: list[tuple[socket.socket, tuple[object, int]]] = [(four, ("0.0.0.0", PORT)), (six, ("::", PORT))]
    try:
        ways.append((socket.socket(socket.AF_VSOCK), (ANYWHERE, PORT)))
    except OSError as error:
        print(error, file=sys.stderr)
    for one, address in ways:
        one.bind(address)
        one.listen()
    print("listening", flush=True)
    time.sleep(100)


main()
