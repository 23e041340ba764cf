"""The kernel's word that something has changed in a directory or a file: inotify on Linux, kqueue on macOS.

A user has 128 instances of inotify by default, and editors take some. Where there is none left, a timer says four
times a second that there may have been a change.
"""

from __future__ import annotations

import os
import select
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from aegis_sdk.errors import StoreFailed

if TYPE_CHECKING:
    import ctypes

_MODIFY, _CLOSE_WRITE, _CREATE, _DELETE_SELF = 0x2, 0x8, 0x100, 0x400
_READ = 1 << 16
_LOOK = 250_000_000  # nanoseconds


class Changes(Protocol):
    """Becomes readable when a directory that it watches gets a file, or a file is written to or let go by a writer."""

    def watch(self, path: Path) -> None:
        """Watch a directory, or a file; FileNotFoundError."""

    def forget(self, path: Path) -> None:
        """Watch it no more; fine if it is gone."""

    def fileno(self) -> int:
        """What becomes readable."""

    def rest(self) -> None:
        """Be readable no more until the next change."""

    def close(self) -> None:
        """Give everything back."""


def changes() -> Changes:
    """Nothing that is watched yet; StoreFailed if the system gives this process no more descriptors."""
    if sys.platform == "linux":
        import ctypes  # late: few programs follow anything

        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        return _Timer(libc) if descriptor < 0 else _Inotify(libc, descriptor)
    if sys.platform == "darwin":
        return _Kqueue()
    raise StoreFailed(f"logs cannot be followed on {sys.platform}")


class _Timer:
    def __init__(self, libc: ctypes.CDLL) -> None:
        import ctypes

        self._descriptor: int = libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            error = ctypes.get_errno()
            raise StoreFailed(f"the system lets this process follow nothing more: {os.strerror(error)}")
        # An itimerspec: the interval and the first expiration, each in seconds and nanoseconds.
        every = (ctypes.c_long * 4)(0, _LOOK, 0, _LOOK)
        libc.timerfd_settime(self._descriptor, 0, ctypes.byref(every), None)

    def watch(self, path: Path) -> None:
        path.stat()

    def forget(self, path: Path) -> None:
        pass

    def fileno(self) -> int:
        return self._descriptor

    def rest(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._descriptor, 8)

    def close(self) -> None:
        os.close(self._descriptor)


class _Inotify:
    def __init__(self, libc: ctypes.CDLL, descriptor: int) -> None:
        import ctypes

        self._add, self._remove, self._errno = libc.inotify_add_watch, libc.inotify_rm_watch, ctypes.get_errno
        self._watched: dict[Path, int] = {}
        self._descriptor = descriptor

    def watch(self, path: Path) -> None:
        mask = _CREATE if path.is_dir() else _MODIFY | _CLOSE_WRITE
        number = self._add(self._descriptor, os.fsencode(path), mask | _DELETE_SELF)
        if number < 0:
            raise OSError(self._errno(), os.strerror(self._errno()), str(path))
        self._watched[path] = number

    def forget(self, path: Path) -> None:
        if (number := self._watched.pop(path, None)) is not None:
            self._remove(self._descriptor, number)

    def fileno(self) -> int:
        return self._descriptor

    def rest(self) -> None:
        with suppress(BlockingIOError):
            while len(os.read(self._descriptor, _READ)) > _READ // 2:
                pass

    def close(self) -> None:
        os.close(self._descriptor)


if sys.platform == "darwin":

    class _Kqueue:
        def __init__(self) -> None:
            self._queue = select.kqueue()
            self._watched: dict[Path, int] = {}

        def watch(self, path: Path) -> None:
            self._watched[path] = descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            notes = select.KQ_NOTE_WRITE | select.KQ_NOTE_EXTEND | select.KQ_NOTE_DELETE
            event = select.kevent(descriptor, select.KQ_FILTER_VNODE, select.KQ_EV_ADD | select.KQ_EV_CLEAR, notes)
            self._queue.control([event], 0)

        def forget(self, path: Path) -> None:
            if (descriptor := self._watched.pop(path, None)) is not None:
                os.close(descriptor)

        def fileno(self) -> int:
            return self._queue.fileno()

        def rest(self) -> None:
            while self._queue.control(None, 16, 0):
                pass

        def close(self) -> None:
            for path in list(self._watched):
                self.forget(path)
            self._queue.close()
