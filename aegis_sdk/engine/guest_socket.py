"""The daemon's second socket: one line of JSON asks for something, one answers, and with it comes a descriptor.

What comes is the very connection that an engine in this process would give, so that what goes over it costs no more.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
import weakref
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from aegis_sdk import sockets, wire
from aegis_sdk.errors import DaemonUnavailable, InvalidValue

_ANSWER = 30.0  # seconds
_LINE = 1 << 20
_FLAGS = socket.MSG_CMSG_CLOEXEC if sys.platform == "linux" else 0


class GuestSocket:
    """The one at *path*; DaemonUnavailable if nobody answers there in time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._lease: _Lease | None = None  # while something hangs on it
        self._hanging = 0

    def ask(self, **request: object) -> socket.socket:
        """The connection that *request* asks for."""
        with ExitStack() as undo:
            line = undo.enter_context(self._connected())
            _, descriptors = self._exchange(line, request)
            for descriptor in descriptors[1:]:
                os.close(descriptor)
            if not descriptors:
                raise DaemonUnavailable(f"the daemon at {self._path} has answered without a connection")
            return socket.socket(fileno=descriptors[0])

    def hang(self) -> str:
        """The ID of a lease for one thing more: it is removed when this is let go, or this process ends."""
        with self._lock:
            if not (self._lease and self._lease.holds):
                self.let_go()
                line = self._connected()
                try:
                    said, _ = self._exchange(line, {"lease": True})
                    self._lease = _Lease(str(said["lease"]), line)
                except BaseException:
                    line.close()
                    raise
            self._hanging += 1
            return self._lease.id

    def unhang(self) -> None:
        """Let one thing that has ended hang no more; the last one takes the lease with it."""
        with self._lock:
            self._hanging -= 1
            if not self._hanging:
                self.let_go()

    def let_go(self) -> None:
        """End the lease, if there is one, and with it all that hangs on it."""
        with self._lock:
            if self._lease:
                self._lease.close()
                self._lease = None

    def _connected(self) -> socket.socket:
        try:
            return sockets.connect(self._path, timeout=_ANSWER)
        except OSError as error:
            raise DaemonUnavailable(f"no daemon listens at {self._path}", hint="start it with `aegis up`") from error

    def _exchange(self, line: socket.socket, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        with ExitStack() as undo:
            try:
                line.sendall(wire.dumps(request) + b"\n")
                answer, descriptors = _read(line, undo)
            except OSError as error:
                raise DaemonUnavailable(f"the daemon at {self._path} has not answered: {error}") from error
            said = _object(answer)
            if "ok" not in said:
                raise wire.error_from_json(said.get("error"))
            undo.pop_all()
            return _object(said["ok"]), descriptors


class _Lease:
    """A connection that is held for nothing but its end."""

    def __init__(self, identity: str, line: socket.socket) -> None:
        self.id, self._line = identity, line
        _HELD.add(self)

    @property
    def holds(self) -> bool:
        """Whether it is open here, and the daemon still holds its end."""
        if self._line.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self._line, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        self._line.close()

    def __del__(self) -> None:
        self._line.close()


# So that a forked child lets go what is its parent's: else the parent's end would end nothing.
_HELD: weakref.WeakSet[_Lease] = weakref.WeakSet()


def _let_go_of_all() -> None:
    for lease in list(_HELD):
        lease.close()


os.register_at_fork(after_in_child=_let_go_of_all)


def _read(line: socket.socket, undo: ExitStack) -> tuple[bytes, list[int]]:
    """The answer's line, and the descriptors that came with it, which *undo* closes."""
    said, descriptors = b"", list[int]()
    deadline = time.monotonic() + _ANSWER
    while not said.endswith(b"\n"):
        line.settimeout(max(0.01, deadline - time.monotonic()))
        piece, found, _, _ = socket.recv_fds(line, _LINE, 4, _FLAGS)
        for descriptor in found:
            undo.callback(os.close, descriptor)
        descriptors += found
        said += piece
        if not piece or len(said) > _LINE:
            raise ConnectionError("it has hung up" if not piece else "its answer has no end")
    return said, descriptors


def _object(value: Any) -> dict[str, Any]:  # Any: what JSON says
    with suppress(InvalidValue):
        value = wire.parse(value) if isinstance(value, bytes) else value
    if not isinstance(value, dict):
        raise DaemonUnavailable("the daemon has answered what this Aegis does not understand")
    return value
