"""A daemon of a test's own: started, asked, killed."""

from __future__ import annotations

import json
import os
import signal
import socket as net
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import attrs

import aegis_sdk as aegis
from aegis_sdk import locks, sockets
from aegis_sdk.engine.remote import RemoteEngine
from tests.conftest import AEGIS


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def code(self) -> str:
        """The code of the error that it is."""
        assert set(self.json["error"]) >= {"code", "message", "hint"}
        return str(self.json["error"]["code"])


@attrs.frozen
class Served:
    """The daemon of a home."""

    home: Path

    @classmethod
    def made(cls, path: Path, images: Path) -> Self:
        """That of a new home at *path*, in which nothing has to be built."""
        (path / "data").mkdir(mode=0o700, parents=True)
        images.mkdir(mode=0o700, exist_ok=True)
        (path / "data" / "images").symlink_to(images)
        return cls(path)

    @property
    def socket(self) -> Path:
        return self.home / "aegisd.sock"

    @property
    def engine(self) -> RemoteEngine:
        return RemoteEngine(self.socket)

    @property
    def daemon(self) -> aegis.Daemon:
        return aegis.Daemon(self.home)

    @property
    def pid(self) -> int | None:
        return locks.holder(self.home / "aegisd.lock")

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "AEGIS_HOME": str(self.home)}

    def start(self) -> None:
        self.daemon.start()

    def stop(self) -> None:
        self.daemon.stop()

    def kill(self) -> None:
        """Kill it, and see that it is gone."""
        if pid := self.pid:
            os.kill(pid, signal.SIGKILL)
            while self.pid == pid:
                time.sleep(0.01)

    def ask(self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **headers: str) -> Answer:
        """What it answers, over a connection of its own."""
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        said = {"host": "aegisd", "connection": "close", "content-length": str(len(data)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
        with sockets.connect(self.socket, timeout=30) as line:
            with suppress(BrokenPipeError, ConnectionResetError):  # it may have heard enough
                line.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + data)
            return read(line)

    def guests(self) -> net.socket:
        """A connection to its socket for guests."""
        return sockets.connect(self.home / "guests.sock", timeout=30)

    def cli(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        options = {"timeout": 100, "env": self.environment, **options}
        command = [*AEGIS, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def read(line: net.socket) -> Answer:
    """The answer on a connection that ends with it."""
    said = b""
    with suppress(ConnectionResetError):  # what was not read of a request that is too long
        while piece := line.recv(1 << 20):
            said += piece
    head, _, body = said.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (word.partition(":") for word in rest)}
    if headers.get("transfer-encoding") == "chunked":
        body = _joined(body)
    return Answer(int(first.split()[1]), headers, body)


def _joined(chunks: bytes) -> bytes:
    whole = b""
    while chunks:
        size, _, chunks = chunks.partition(b"\r\n")
        whole += chunks[: int(size, 16)]
        chunks = chunks[int(size, 16) + 2 :]
    return whole
