"""Who runs what is on record: each a file of its own, locked for as long as it lives, whatever ends it."""

from __future__ import annotations

import fcntl
import os
import weakref
from contextlib import suppress
from pathlib import Path

from aegis_sdk.artifacts import private


class Owner:
    """A claim that ends with this object's ``close``, or with its process; a forked child has no part in it."""

    def __init__(self, directory: Path) -> None:
        self.name = os.urandom(8).hex()
        self.path = private(directory) / self.name
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        # Who watches the file is told when one who could write to it lets it go, a moment before that one's lock is
        # gone. So the lock is the middle one's: in whichever order a dying process closes them, one comes after it.
        self._handles = [os.open(self.path, flags, 0o600) for _ in range(3)]
        fcntl.flock(self._handles[1], fcntl.LOCK_EX)
        _close_in_children(self)

    def close(self) -> None:
        """Give the claim up; fine twice."""
        with suppress(OSError):
            self.path.unlink()
        self.let_go()

    def let_go(self) -> None:
        """Have no part in the claim any more, which is another process's."""
        while self._handles:
            os.close(self._handles.pop())


def _close_in_children(owner: Owner) -> None:
    known = weakref.ref(owner)

    def forget() -> None:
        if mine := known():
            mine.let_go()

    os.register_at_fork(after_in_child=forget)


def lives(path: Path) -> bool:
    """Whether the owner whose file that is has not ended."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def sweep(directory: Path) -> None:
    """Remove the files of owners that have ended."""
    for path in directory.glob("*"):
        if not lives(path):
            path.unlink(missing_ok=True)
