"""Sockets that have a place in the file system, however long its name is, and who is at their other end."""

from __future__ import annotations

import os
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

_LONGEST = 100  # bytes: a kernel takes a few more
_AGAIN = 0.02  # seconds
_CREDENTIALS = struct.Struct("3i")
# What macOS calls it, from its <sys/un.h>.
_SOL_LOCAL, _LOCAL_PEERCRED, _LOCAL_PEERPID = 0, 1, 2


@attrs.frozen
class Peer:
    """The process that made the other end: its user, and its number as it was then."""

    uid: int
    pid: int

    @property
    def trusted(self) -> bool:
        """Whether it belongs to this user, or to root, who can do all that this user can."""
        return self.uid in (os.geteuid(), 0)


def connect(path: Path, *, timeout: float | None) -> socket.socket:
    """A connection to who listens at *path*; OSError as the system says, TimeoutError if none is taken in time."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(timeout)
        with address(path) as where:
            _connect(made, where, timeout=timeout)
    except BaseException:
        made.close()
        raise
    return made


def _connect(made: socket.socket, where: str, *, timeout: float | None) -> None:
    began = time.monotonic()
    while True:
        try:
            made.connect(where)
            return
        except BlockingIOError:  # more wait to be taken than there is room for: with a time limit, Linux does not wait
            if timeout is not None and time.monotonic() - began >= timeout:
                raise TimeoutError(f"nobody was taken at {where} for {timeout:g} s") from None
            time.sleep(_AGAIN)


@contextmanager
def address(path: Path) -> Iterator[str]:
    """*path* as the kernel takes it for a socket's address, while the block lasts."""
    if len(os.fsencode(path)) <= _LONGEST or sys.platform != "linux":
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def peer(connected: socket.socket) -> Peer:
    """Who is at the other end: of a connection that was taken, who asked for it; else, who listens."""
    if sys.platform == "linux":
        said = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(said)
        return Peer(uid, pid)
    # struct xucred begins with a version and the user.
    _, uid = struct.unpack_from("Ii", connected.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, 76))
    return Peer(uid, connected.getsockopt(_SOL_LOCAL, _LOCAL_PEERPID))
