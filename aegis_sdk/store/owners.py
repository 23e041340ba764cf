"""Who runs what is on record: each a file of its own, locked for as long as it lives, whatever ends it."""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from aegis_sdk.artifacts import private


class Owner:
    """A claim that ends with this object's ``close``, or with its process; a forked child has no part in it."""

    def __init__(self, directory: Path) -> None:
        self.path, self._handles = _claimed(private(directory))
        self.name = self.path.name
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


def _claimed(directory: Path) -> tuple[Path, list[int]]:
    """A file of our own, and what holds its lock."""
    path = directory / os.urandom(8).hex()
    # Who watches the file is told when one who could write to it lets it go, a moment before that one's lock is
    # gone. So the lock is the middle one's: in whichever order a dying process closes them, one comes after it.
    handles = [os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) for _ in range(3)]
    fcntl.flock(handles[1], fcntl.LOCK_EX)
    if path.exists():
        return path, handles
    for handle in handles:  # it was swept before it was locked
        os.close(handle)
    return _claimed(directory)


def _close_in_children(owner: Owner) -> None:
    known = weakref.ref(owner)

    def forget() -> None:
        if mine := known():
            mine.let_go()

    os.register_at_fork(after_in_child=forget)


def lives(path: Path) -> bool:
    """Whether the owner whose file that is has not ended."""
    with _tried(path, fcntl.LOCK_SH) as ended:
        return ended is False


def sweep(directory: Path) -> None:
    """Remove the files of owners that have ended."""
    for path in directory.glob("*"):
        with _tried(path, fcntl.LOCK_EX) as ended:  # while we hold the lock, nobody can claim it
            if ended:
                path.unlink(missing_ok=True)


@contextmanager
def _tried(path: Path, lock: int) -> Iterator[bool | None]:
    """Whether the lock could be had, which it is in the block; None if there is no such file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        fcntl.flock(handle, lock | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(handle)
