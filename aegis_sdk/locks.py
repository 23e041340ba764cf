"""Who is alone with something: a lock on a file, which ends with its process, however that ends."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aegis_sdk.artifacts import private

# struct flock of <fcntl.h>, whose fields the two have in different orders.
_LAYOUT, _TYPE, _PID = ("hhqqi4x", 0, 4) if sys.platform == "linux" else ("qqihh", 3, 2)
_MOMENT, _GLANCE = 1.0, 0.01  # in seconds


class Taken(Exception):
    """Another process holds the lock: its number, None if that cannot be known."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(pid)
        self.pid = pid


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else is in this block with the same *path*; Taken says who is."""
    # The file stays: who removed it could remove one that another has just locked.
    private(path.parent)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _exclude(handle, path)
        fcntl.lockf(handle, fcntl.LOCK_EX)  # excludes nobody any more, but of its holder the kernel knows the number
        yield
    finally:
        os.close(handle)


def _exclude(handle: int, path: Path) -> None:
    """Lock it, or say who has: who is at it this moment will have its number known, or be gone, with the next look."""
    deadline = time.monotonic() + _MOMENT
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if (pid := holder(path)) is not None or time.monotonic() > deadline:
                raise Taken(pid) from None
        time.sleep(_GLANCE)


def holder(path: Path) -> int | None:
    """The process that is alone with *path* this moment, as the kernel has it; None if none is.

    Not to be asked by that process: to close the file gives up half of its lock.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fields = [0, 0, 0, 0, 0]
        fields[_TYPE] = fcntl.F_WRLCK
        said = struct.unpack(_LAYOUT, fcntl.fcntl(handle, fcntl.F_GETLK, struct.pack(_LAYOUT, *fields)))
    finally:
        os.close(handle)
    return None if said[_TYPE] == fcntl.F_UNLCK else said[_PID]
