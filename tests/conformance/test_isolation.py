"""A guest reaches nothing of its host, whatever tricks its root tries, and the host shows nothing of it."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent.parent / "in_guest"


@pytest.fixture
def python(images, boot):
    """A guest with a Python in it."""
    return boot(image=images.reference("python"))


def _sockets(pid: int) -> set[str]:
    """The Internet sockets that a process holds, as the kernel lists them."""
    held, found = set(), set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            held.add(os.readlink(entry))
    for name in ("tcp", "tcp6", "udp", "udp6"):
        lines = Path("/proc/net", name).read_text().splitlines()[1:]
        found |= {f"{name} {line}" for line in lines if f"socket:[{line.split()[9]}]" in held}
    return found


def _outward_address() -> str:
    """An address of this machine that others may reach it by; the loopback's if it has none."""
    with socket.socket(type=socket.SOCK_DGRAM) as one, suppress(OSError):
        one.connect(("192.0.2.1", 9))  # nothing is sent
        return str(one.getsockname()[0])
    return "127.0.0.1"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


@pytest.mark.every_driver
def test_what_it_reaches(python):
    """No call by vsock, by loopback, by a host's address or by libkrun's own sockets in the host (TSI) arrives."""
    addresses = {"127.0.0.1", "10.0.2.2", _outward_address()}
    with socket.create_server(("0.0.0.0", 0)) as listener, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        port = listener.getsockname()[1]
        datagrams.bind(("0.0.0.0", port))
        done = python.run(
            "python3", "-c", (PROGRAMS / "reach.py").read_text(), str(port), str(_free_port()), *addresses, timeout=100
        )
        assert done.ok, done.stderr
        tried, reached = json.loads(done.stdout)
        assert tried > 50
        assert reached == []
        for one in (listener, datagrams):
            one.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
        with pytest.raises(BlockingIOError):
            datagrams.recv(100)
        assert len(_sockets(os.getpid())) >= 2  # these two: it is seen what a process holds
        assert not _sockets(python.info().pid)


@pytest.mark.every_driver
def test_where_it_listens(python):
    """A port on which a guest listens is none of the host's."""
    port = _free_port()
    with python.start("python3", "-c", (PROGRAMS / "listen.py").read_text(), str(port)) as process:
        assert next(process.stdout.chunks()) == b"listening\n"
        assert not _sockets(python.info().pid)
        for address in ("127.0.0.1", "::1"):
            with pytest.raises(OSError, match=r"refused|Cannot assign"):
                socket.create_connection((address, port), timeout=2)
