"""What the root of a guest can try to get out by another way: each prints what it came to."""

import ctypes
import errno
import os
import resource
import select
import socket
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
BY_ID, NEXT_ID, DETACH = 30, 31, 34
NEW_NET = 0x40000000


def page(host, port, mark=0):
    """What is read there, or the error's name."""
    with socket.socket() as connection:
        connection.settimeout(15)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        try:
            connection.connect((host, int(port)))
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.recv(1 << 16) or "nothing"
        except OSError as error:
            return errno.errorcode[error.errno or 0]


def marked(host, port, mark):
    """Connect with the harness's own mark."""
    print(page(host, port, int(mark)))


def crafted(host, port):
    """Send a first segment past all sockets, and listen for what answers: SYN and ACK."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as hears,
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sends,
    ):
        hears.settimeout(2)
        segment = struct.pack(">HHLLBBHHH", 4242, int(port), 1, 0, 0x50, 2, 1000, 0, 0)
        here, there = socket.inet_aton("127.0.0.1"), socket.inet_aton(host)
        sends.sendto(struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, here, there) + segment, (host, 0))
        try:
            while hears.recv(4096)[33] & 0x12 != 0x12:
                pass
        except TimeoutError:
            print("nothing")
        else:
            print("answered")


def elsewhere(host, port):
    """Connect from a network namespace without anything of the harness's."""
    assert LIBC.unshare(NEW_NET) == 0
    print(page(host, port))


def bpf(command, number):
    attributes = ctypes.create_string_buffer(struct.pack("=LLL", number, 0, 0).ljust(64, b"\0"))
    found = LIBC.syscall(BPF, command, attributes, 64)
    return found, struct.unpack_from("=LL", attributes)[1]


def detach(host, port):
    """Take the program away that catches connections."""
    number, found = 0, 0
    while True:
        failed, number = bpf(NEXT_ID, number)
        if failed:
            break
        link, _ = bpf(BY_ID, number)
        assert bpf(DETACH, link)[0] == 0, os.strerror(ctypes.get_errno())
        found += 1
    print(found, page(host, port))


def flood(host, port, count):
    """Begin so many connections at once, and count those that are refused."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(count) + 50,) * 2)
    waiting, poll = {}, select.epoll()
    for _ in range(int(count)):
        connection = socket.socket()
        connection.setblocking(False)
        connection.connect_ex((host, int(port)))
        waiting[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLOUT | select.EPOLLET)
    refused = 0
    while waiting and (ready := poll.poll(20)):
        for number, _ in ready:
            with waiting.pop(number) as connection:
                refused += connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
    print(refused)


globals()[sys.argv[1]](*sys.argv[2:])
