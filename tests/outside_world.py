"""Machines that are not this one: a network namespace with addresses of all kinds, in which tests serve.

Each process of tests has a namespace and addresses of its own, which end with it, also if it is killed.
"""

from __future__ import annotations

import ctypes
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from typing import Any, TypeVar

import attrs
import pytest

_NEW_NET = 0x40000000
_CLOUDS = ("169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16")
Made = TypeVar("Made")


def _place() -> tuple[int, socket.socket]:
    """A number that no other process of tests has, and the socket whose name keeps it so."""
    for number in range(200):
        keeping = socket.socket(socket.AF_UNIX)
        try:
            keeping.bind(f"\0aegis-tests-outside-{number}")
        except OSError:
            keeping.close()
            continue
        return number, keeping
    raise RuntimeError("too many run these tests at once")


_NUMBER, _KEPT = _place()
#: Addresses that exist in the outside world of the tests: of everybody's, of a private network's, of a cloud's.
PUBLIC, PUBLIC_TOO = f"93.184.{_NUMBER}.34", f"93.184.{_NUMBER}.35"
PUBLIC_6 = f"2606:2800:220:{_NUMBER + 1:x}::1"
PRIVATE = f"10.99.{_NUMBER}.7"
METADATA = dict(enumerate(_CLOUDS)).get(_NUMBER, f"169.254.{_NUMBER}.254")
#: This machine's own address in the network that leads there.
OWN = f"198.18.{_NUMBER}.129"
OWN_6 = f"2606:2800:220:{_NUMBER + 1:x}::fffe"
_WORDS = dict.fromkeys((*_CLOUDS, METADATA), "METADATA") | {
    PUBLIC: "PUBLIC",
    PUBLIC_TOO: "PUBLIC_TOO",
    PUBLIC_6: "PUBLIC_6",
    PRIVATE: "PRIVATE",
    OWN_6: "OWN_6",
    OWN: "OWN",
}


def pytest_make_parametrize_id(val: object) -> str | None:
    """Each process calls the same test by the same name."""
    if not isinstance(val, str) or not any(address in val for address in _WORDS):
        return None
    for address, word in _WORDS.items():
        val = val.replace(address, word)
    return val


@attrs.frozen
class Namespace:
    """A network namespace, which lasts as long as the descriptor is open."""

    descriptor: int

    @classmethod
    def new(cls) -> Namespace:
        def unshare() -> int:
            assert ctypes.CDLL(None, use_errno=True).unshare(_NEW_NET) == 0, os.strerror(ctypes.get_errno())
            return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

        return cls(_in_thread(unshare))

    def run(self, action: Callable[[], Made]) -> Made:
        """What *action* gives in a thread that has entered; so do the programs that it starts."""

        def enter() -> Made:
            assert ctypes.CDLL(None).setns(self.descriptor, _NEW_NET) == 0
            return action()

        return _in_thread(enter)


def _in_thread(action: Callable[[], Made]) -> Made:
    found: list[Made] = []
    thread = threading.Thread(target=lambda: found.append(action()))
    thread.start()
    thread.join()
    return found[0]


class Outside:
    """Servers in the namespace; on this machine itself without one."""

    def __init__(self, namespace: Namespace | None = None) -> None:
        self._namespace = namespace
        self._servers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def serve(self, address: str, port: int, answer: Callable[[socket.socket], object]) -> None:
        """Call *answer*, in a thread, with each connection to there."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        enter = self._namespace.run if self._namespace else _in_thread
        listening = enter(lambda: socket.socket(family, socket.SOCK_STREAM))
        self._servers.append(listening)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen(1024)
        self._start(self._accept, listening, answer)

    def close(self) -> None:
        for server in self._servers:
            with suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self, listening: socket.socket, answer: Callable[[socket.socket], object]) -> None:
        with suppress(OSError):
            while True:
                self._start(_answered, listening.accept()[0], answer)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments))
        self._threads[-1].start()


def _answered(connected: socket.socket, answer: Callable[[socket.socket], object]) -> None:
    with closing(connected), suppress(OSError):
        connected.settimeout(15)
        answer(connected)


def web(text: str) -> Callable[[socket.socket], None]:
    """A server of one page."""

    def answer(connected: socket.socket) -> None:
        _asked(connected)
        body = text.encode()
        head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connected.sendall(head.encode() + body)

    return answer


def over_tls(context: ssl.SSLContext, answer: Callable[[socket.socket], object]) -> Callable[[socket.socket], None]:
    """The same server behind TLS."""

    def secured(connected: socket.socket) -> None:
        with context.wrap_socket(connected, server_side=True) as inner:
            answer(inner)

    return secured


def pages(known: Mapping[str, bytes]) -> Callable[[socket.socket], None]:
    """A server of HTTP with a page for each path; a page that is a URL leads there."""

    def answer(connected: socket.socket) -> None:
        path = _asked(connected).split(b" ")[1].decode()
        body = known.get(path.partition("?")[0])
        status = "404 Not Found" if body is None else "302 Found" if body.startswith(b"http://") else "200 OK"
        body = body or b""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: text/html", "Connection: close"]
        if status.startswith("302"):
            lines.append(f"Location: {body.decode()}")
        connected.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    return answer


def _asked(connected: socket.socket) -> bytes:
    asked = b""
    while b"\r\n\r\n" not in asked and (part := connected.recv(4096)):
        asked += part
    return asked


@contextmanager
def named(names: Mapping[str, str]) -> Iterator[None]:
    """Have this process find *names*, by address, while the block lasts."""
    look_up = socket.getaddrinfo

    def found(name: str, *rest: Any, **options: Any) -> Any:
        return look_up(names.get(name, name), *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", found)
        yield


@pytest.fixture(scope="session")
def namespace() -> Iterator[Namespace]:
    """The namespace of this process, with a way there."""
    here, there, gateway = f"aegis-out{_NUMBER}", "outside", f"198.18.{_NUMBER}.130"
    made = Namespace.new()
    try:
        _ip(f"link add {there} type veth peer name {here} netns {os.getpid()}", at=made)
        _ip(
            *("link set lo up", f"link set {there} up", f"addr add {gateway}/30 dev {there}"),
            *(f"addr add {address}/32 dev lo" for address in (PUBLIC, PUBLIC_TOO, PRIVATE, METADATA)),
            f"addr add {PUBLIC_6}/64 dev {there} nodad",
            at=made,
        )
        _ip(
            *(f"addr add {OWN}/30 dev {here}", f"addr add {OWN_6}/64 dev {here} nodad", f"link set {here} up"),
            *(f"route add {to}/32 via {gateway} dev {here}" for to in (PUBLIC, PUBLIC_TOO, PRIVATE, METADATA)),
        )
        yield made
    finally:
        subprocess.run(["ip", "link", "del", here], check=False, capture_output=True)
        os.close(made.descriptor)


def _ip(*lines: str, at: Namespace | None = None) -> None:
    def run() -> None:
        done = subprocess.run(
            ["ip", "-batch", "-"], input="\n".join(lines), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    if at:
        at.run(run)
    else:
        run()


@pytest.fixture
def outside(namespace: Namespace) -> Iterator[Outside]:
    """Servers of one test there."""
    with closing(Outside(namespace)) as made:
        yield made
