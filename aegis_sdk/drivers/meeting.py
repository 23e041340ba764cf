"""Where libkrun calls for its guest: a unix socket, without a name on Linux, elsewhere with one until the call came."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import attrs

from aegis_sdk.artifacts import private
from aegis_sdk.drivers.machine import Wires, above_standard

_NAME = ".port"


@attrs.frozen
class Meeting:
    """A listening socket, and the path by which the monitor reaches it."""

    listener: socket.socket
    path: str
    _named: bool

    def over(self) -> None:
        """Nobody else may come; fine if that was said."""
        self.listener.close()
        if self._named:
            Path(self.path).unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                Path(self.path).parent.rmdir()


def arrange(directory: Path, wires: Wires, undo: ExitStack) -> Meeting:
    """Listen in the best way that this system has; *wires* carry what the monitor needs for it."""
    if sys.platform == "linux":
        return arrange_without_name(directory, wires, undo)
    return arrange_with_name(undo)


def _listener(undo: ExitStack) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    return undo.enter_context(socket.socket(fileno=above_standard(listener.detach())))


def arrange_with_name(undo: ExitStack) -> Meeting:
    """A socket in a new directory of the system's place for such, which only this user may enter.

    A connection through /dev/fd is Linux's alone. What a killed process leaves there, the system removes in time: in
    AEGIS_HOME it would stay, and the path might be longer than macOS's 103 bytes.
    """
    import tempfile  # late: Linux does without

    meeting = Meeting(_listener(undo), f"{tempfile.mkdtemp(prefix='aegis-')}/port", named=True)
    undo.callback(meeting.over)
    meeting.listener.bind(meeting.path)
    meeting.listener.listen(1)
    return meeting


if sys.platform == "linux":

    def arrange_without_name(directory: Path, wires: Wires, undo: ExitStack) -> Meeting:
        """A socket whose name in *directory* is gone before the monitor starts: it calls by a descriptor of its place.

        libkrun takes only a path, and /proc/self/fd/N is one.
        """
        listener = _listener(undo)
        place = wires.give("place", _bind(listener, private(directory)), undo)
        listener.listen(1)
        return Meeting(listener, f"/proc/self/fd/{place}", named=False)

    def _bind(listener: socket.socket, directory: Path) -> int:
        """Bind *listener* in *directory*; a descriptor of its place, which by then has no name any more.

        The name is there for some microseconds, and is always the same, under a lock: what a process that was killed in
        between has left, the next one removes.
        """
        holder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(holder, fcntl.LOCK_EX)
            place = f"/proc/self/fd/{holder}/{_NAME}"  # a socket's path may be no longer than 107 bytes
            Path(place).unlink(missing_ok=True)
            try:
                listener.bind(place)
                return os.open(place, os.O_PATH | os.O_CLOEXEC)
            finally:
                Path(place).unlink(missing_ok=True)
        finally:
            os.close(holder)
