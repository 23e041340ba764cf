"""Connects out of a guest, and says how that went: one word for one error."""

import os
import socket
import struct
import sys
import threading
import time


def dialled(host, port):
    return socket.create_connection((host, int(port)), timeout=15)


def fetch(host, port):
    try:
        with dialled(host, port) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        print(answer.partition(b"\r\n\r\n")[2].decode())
    except OSError as error:
        print(type(error).__name__)


def refusals(host, count):
    start = time.monotonic()
    for _ in range(int(count)):
        try:
            dialled(host, 80)
        except ConnectionRefusedError:
            continue
    print(time.monotonic() - start)


def itself(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server(("::" if ":" in host else "0.0.0.0", 0), family=family) as server:

        def answer():
            with server.accept()[0] as connected:
                connected.sendall(b"hello")

        thread = threading.Thread(target=answer)
        thread.start()
        with dialled(host, server.getsockname()[1]) as connection:
            print(connection.recv(9).decode())
        thread.join()


def echo(host, port, size):
    sent = os.urandom(int(size))
    with dialled(host, port) as connection:

        def send():
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=send)
        thread.start()
        got = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        thread.join()
    print("same" if got == sent else len(got))


def drink(host, port, mebibytes):
    total = 0
    with dialled(host, port) as connection:
        connection.sendall(f"{mebibytes}\n".encode())
        while data := connection.recv(1 << 18):
            total += len(data)
    print(total)


def reset(host, port):
    with dialled(host, port) as connection:
        try:
            connection.sendall(b"xx")
            print(connection.recv(1))
        except OSError as error:
            print(type(error).__name__)


def many(host, port, count):
    connections = [dialled(host, port) for _ in range(int(count))]
    for number, connection in enumerate(connections):
        connection.sendall(b"%8d" % number)
    print(sum(int(connection.recv(8)) == number for number, connection in enumerate(connections)))


def hold(host, port):
    with dialled(host, port):
        print("held", flush=True)
        time.sleep(60)


def datagram(host, port):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(10)
        try:
            asking.connect((host, int(port)))
            asking.send(b"x")
            print(asking.recv(1))
        except OSError as error:
            print(type(error).__name__)


def unroute():
    """Take the route away that makes all addresses local, and lo's address with it."""
    request = struct.pack("=LHHLL", 36, 25, 5, 1, 0) + struct.pack("=BBBBBBBBL", 2, 0, 0, 0, 255, 3, 254, 2, 0)
    request += struct.pack("=HHL", 8, 4, 1)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.send(request)
        code = struct.unpack_from("=l", netlink.recv(999), 16)[0]
    print(code or "done")


globals()[sys.argv[1]](*sys.argv[2:])
