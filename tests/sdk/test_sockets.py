"""Connections to who listens somewhere in the file system."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aegis_sdk import sockets


@pytest.fixture
def full(tmp_path: Path) -> Iterator[socket.socket]:
    """Who listens, and has no room for one more to wait."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "full"))
        listener.listen(0)
        waiting = opened.enter_context(socket.socket(socket.AF_UNIX))
        waiting.connect(str(tmp_path / "full"))
        yield listener


def test_many_at_once(full: socket.socket) -> None:
    """Who comes while so many wait that there is no more room waits, too, until it is taken."""
    connected: list[socket.socket] = []
    where = Path(full.getsockname())
    asking = threading.Thread(target=lambda: connected.append(sockets.connect(where, timeout=10)))
    asking.start()
    for _ in range(2):
        full.accept()[0].close()
    asking.join()
    with connected[0] as taken:
        assert taken.recv(1) == b""


def test_nobody_is_taken(full: socket.socket) -> None:
    """It does not wait for longer than it was told to."""
    with pytest.raises(TimeoutError):
        sockets.connect(Path(full.getsockname()), timeout=0.1)
