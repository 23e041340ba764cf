"""Asking for a task's end, from any process: a named pipe that whoever runs the task listens to."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class Cancelling:
    """The listener's end of the pipe at *path*, which is there until this is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        self._ours = os.open(path, os.O_RDONLY | _FLAGS)
        self._theirs = os.open(path, os.O_WRONLY | _FLAGS)  # or it would hang up when the first who asks has asked

    def fileno(self) -> int:
        """What becomes readable."""
        return self._ours

    def asked(self) -> bool:
        """Whether somebody has asked since the last time."""
        with suppress(BlockingIOError):
            return bool(os.read(self._ours, 4096))
        return False

    def close(self) -> None:
        """Listen no more."""
        self._path.unlink(missing_ok=True)
        os.close(self._ours)
        os.close(self._theirs)


def ask(path: Path) -> bool:
    """Ask at *path*; false if nobody listens there."""
    try:
        pipe = os.open(path, os.O_WRONLY | _FLAGS)
    except OSError:
        return False
    try:
        with suppress(BlockingIOError):  # it is full of those who asked before
            os.write(pipe, b"x")
    finally:
        os.close(pipe)
    return True
