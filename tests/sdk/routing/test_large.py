"""Much, and much at once, in little memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT
from tests.sdk.routing.apps import answering, connected, exactly, head, length

#: MiB each way; AEGIS_TEST_GIB=1 has it be a GiB.
_MIB = 1024 if os.environ.get("AEGIS_TEST_GIB") else 128
_PIECE = bytes(range(256)) * 4096


@pytest.fixture
def apart(world) -> Iterator[tuple[int, int]]:
    """A router in a process of its own, so that its memory is its own: its process and its port."""
    world.add("web", _swallow, _pour)
    command = [sys.executable, "-m", "benchmarks.router", *(str(world._paths["web-v1", port]) for port in (8000, 8001))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as router:
        yield router.pid, int(router.stdout.readline())
        router.stdin.close()


def _swallow(connection: socket.socket) -> None:
    asked = head(connection)
    left, buffer = length(asked), bytearray(1 << 20)
    while left:
        left -= connection.recv_into(buffer, min(left, len(buffer)))
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def _pour(connection: socket.socket) -> None:
    head(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(_MIB):
        connection.sendall(b"%x\r\n" % len(_PIECE) + _PIECE + b"\r\n")
    connection.sendall(b"0\r\n\r\n")


def _peak(pid: int) -> int:
    """The most memory that a process has had resident, in MiB."""
    words = Path(f"/proc/{pid}/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) >> 10


@pytest.mark.timeout(120)
def test_much_up_and_down(apart):
    """However much goes up and down, the router's memory stays what it was."""
    pid, port = apart
    url = f"http://127.0.0.1:{port}"
    assert httpx.get(f"{url}/app/none/").status_code == 404
    before = _peak(pid)
    fields = {"Content-Length": str(_MIB << 20)}
    assert httpx.post(f"{url}/app/web/", content=(_PIECE for _ in range(_MIB)), headers=fields, timeout=60).text == "ok"
    with httpx.Client(timeout=60) as client, client.stream("GET", f"{url}/app/web:8001/") as answer:
        assert sum(map(len, answer.iter_raw(1 << 20))) == _MIB << 20
    assert _peak(pid) - before < 8


@pytest.mark.timeout(60)
def test_who_reads_slowly(apart):
    """What a client does not take stays with the app, and not in the router."""
    pid, port = apart
    with connected(port) as client:
        before = _peak(pid)
        client.sendall(b"GET /app/web:8001/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head(client)
        for _ in range(20):
            exactly(client, 1 << 16)
            threading.Event().wait(0.05)
        assert _peak(pid) - before < 8


@pytest.mark.timeout(60)
def test_ten_thousand_requests(world, router):
    """Ten thousand requests on one connection get each its own answer, over one connection to the app."""
    world.add("web", answering())
    with connected(router.port) as client:
        for start in range(0, 10_000, 100):
            asked = [
                f"GET /app/web/{number} HTTP/1.1\r\nHost: localhost\r\n\r\n" for number in range(start, start + 100)
            ]
            client.sendall("".join(asked).encode())
            for number in range(start, start + 100):
                answer = head(client)
                assert exactly(client, length(answer)).startswith(b"GET /%d HTTP/1.1\r\n" % number)
    assert world.calls == ["dial web-v1:8000"]
