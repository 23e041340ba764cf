"""What the router's tests serve: apps whose instances are servers of this process, on sockets without a port."""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer

from aegis_sdk.routing.base import Asleep, ServedApp, ServedInstance

#: Talks over one connection, until it returns.
Talk = Callable[[socket.socket], None]


class World:
    """The apps that a router serves, as ``Backends``; an instance is asleep until it is woken if it is told so."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._lock = threading.Lock()
        self.apps: dict[str, ServedApp] = {}
        self.held: Counter[str] = Counter()
        self.calls: list[str] = []
        self.awake: dict[str, bool] = {}
        self.waking: Callable[[str], None] = lambda _: None
        self._paths: dict[tuple[str, int], Path] = {}
        self._closing: list[Callable[[], None]] = []

    def add(
        self, app: str, *talks: Talk, release: str = "v1", awake: bool = True, first: int = 8000, beside: bool = False
    ) -> str:
        """Serve *talks* on the ports of a new instance of *app*, its first but for *beside*. Gives its ID."""
        before = self.apps.get(app, ServedApp(id=f"id-of-{app}", name=app))
        name = f"{app}-{release}"
        ports = tuple(range(first, first + len(talks)))
        for port, talk in zip(ports, talks, strict=True):
            self._listen(name, port, talk)
        self.awake[name] = awake
        instance = ServedInstance(id=name, release=release, ports=ports, awake=awake)
        served = (*before.instances, instance) if beside else (instance, *before.instances)
        self.apps[app] = ServedApp(id=before.id, name=app, instances=served)
        return name

    def snapshot(self) -> dict[str, ServedApp]:
        return self.apps

    def hold(self, instance: str) -> bool:
        with self._lock:
            self.held[instance] += 1
            return self.awake[instance]

    def let_go(self, instance: str) -> None:
        with self._lock:
            self.held[instance] -= 1

    def wake(self, instance: str) -> None:
        self.calls.append(f"wake {instance}")
        self.waking(instance)
        with self._lock:
            self.awake[instance] = True

    def dial(self, instance: str, port: int, *, timeout: float) -> socket.socket:
        self.calls.append(f"dial {instance}:{port}")
        with self._lock:
            if not self.awake[instance]:
                raise Asleep
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(timeout)
            connected.connect(str(self._paths[instance, port]))
        except BaseException:
            connected.close()
            raise
        return connected

    def close(self) -> None:
        while self._closing:
            self._closing.pop()()

    def _listen(self, instance: str, port: int, talk: Talk) -> None:
        path = self._place / f"{len(self._paths)}"
        self._paths[instance, port] = path
        server = _Server(str(path), talk)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()
            path.unlink()

        self._closing.append(close)


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = False
    request_queue_size = 512

    def __init__(self, path: str, talk: Talk) -> None:
        self._talk = talk
        self._open: set[socket.socket] = set()
        super().__init__(path, BaseHTTPRequestHandler)

    def finish_request(self, request, _client_address):
        self._open.add(request)
        with suppress(OSError, EOFError):
            self._talk(request)

    def shutdown_request(self, request):
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self):
        for connected in self._open.copy():
            with suppress(OSError, EOFError):
                connected.shutdown(socket.SHUT_RDWR)
        super().server_close()


def head(connected: socket.socket) -> bytes:
    """The next head, and nothing after it; empty at the end."""
    got = b""
    while seen := connected.recv(1 << 16, socket.MSG_PEEK):
        end = (got + seen).find(b"\r\n\r\n")
        if end >= 0:
            return got + exactly(connected, end + 4 - len(got))
        got += exactly(connected, len(seen))
    return b""


def length(head: bytes) -> int:
    """What a head says of the length of its body."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def exactly(connected: socket.socket, size: int) -> bytes:
    """So many bytes."""
    got = b""
    while len(got) < size:
        piece = connected.recv(size - len(got))
        if not piece:
            raise EOFError(f"{len(got)} bytes of {size}: {got!r:.200}")
        got += piece
    return got


def rest(connected: socket.socket) -> bytes:
    """All until the end."""
    got = bytearray()
    while piece := connected.recv(1 << 16):
        got += piece
    return bytes(got)


def answering(body: bytes | None = None, *, first: str = "HTTP/1.1 200 OK", fields: str = "") -> Talk:
    """Answers every request with *body*, or, if that is None, with the request's own head and body."""

    def talk(connected: socket.socket) -> None:
        while asked := head(connected):
            sent = asked + exactly(connected, length(asked)) if body is None else body
            exactly(connected, length(asked)) if body is not None else None
            answer = f"{first}\r\n{fields}Content-Length: {len(sent)}\r\n\r\n".encode() + sent
            connected.sendall(answer)

    return talk


def saying(*pieces: bytes) -> Talk:
    """Answers the first request with these bytes as they are, and hangs up."""

    def talk(connected: socket.socket) -> None:
        if head(connected):
            for piece in pieces:
                connected.sendall(piece)

    return talk


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """A connection to a port of this machine."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as made:
        yield made
