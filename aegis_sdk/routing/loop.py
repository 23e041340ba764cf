"""The router's event loop: who waits for a socket is called at once, rather than in the loop's next round.

A round costs a system call and, by asyncio's own way, four more calls of Python for each socket; and what is woken by
a callback has to wait for yet another round. A small answer takes two of each.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVarTuple, Unpack, cast

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

_Arguments = TypeVarTuple("_Arguments")

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class _Watched:
    """What is to be called for one socket."""

    __slots__ = ("reader", "writer")

    def __init__(self) -> None:
        self.reader: Callable[[], object] | None = None
        self.writer: Callable[[], object] | None = None


class _Selector(selectors.DefaultSelector):
    """Calls who watches, and gives asyncio what is left: its own pipe, which other threads wake it by."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        super().__init__()
        self._failed = failed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        left = []
        for key, events in super().select(timeout):
            watched = key.data
            if type(watched) is not _Watched:
                left.append((key, events))
                continue
            try:
                # Looked up late: the call before may have ended the watch, here or from another socket's.
                if events & _READ and watched.reader:
                    watched.reader()
                if events & _WRITE and watched.writer:
                    watched.writer()
            except Exception as error:  # noqa: BLE001  # costs nobody else's connection
                self._failed(error)
        return left


class Loop(asyncio.SelectorEventLoop):
    """An event loop for streams that watch sockets, and for tasks."""

    def __init__(self) -> None:
        self._watching = _Selector(self._failed)
        super().__init__(self._watching)

    def add_reader(
        self, fd: FileDescriptorLike, callback: Callable[[Unpack[_Arguments]], Any], *args: *_Arguments
    ) -> None:
        """Call *callback* whenever there is something to read, or somebody to accept."""
        watched = self._watched(fd, _READ)
        watched.reader = partial(callback, *args) if args else callback

    def remove_reader(self, fd: FileDescriptorLike) -> bool:
        """Call nobody for that any more; whether somebody was to be called."""
        return self._unwatch(fd, _READ)

    def add_writer(
        self, fd: FileDescriptorLike, callback: Callable[[Unpack[_Arguments]], Any], *args: *_Arguments
    ) -> None:
        """Call *callback* whenever there is room to write."""
        watched = self._watched(fd, _WRITE)
        watched.writer = partial(callback, *args) if args else callback

    def remove_writer(self, fd: FileDescriptorLike) -> bool:
        """Call nobody for that any more; whether somebody was to be called."""
        return self._unwatch(fd, _WRITE)

    def _watched(self, fd: FileDescriptorLike, event: int) -> _Watched:
        key = self._watching.get_map().get(fd)
        if key is None:
            watched = _Watched()
            self._watching.register(fd, event, watched)
            return watched
        if not key.events & event:
            self._watching.modify(fd, key.events | event, key.data)
        return cast("_Watched", key.data)

    def _unwatch(self, fd: FileDescriptorLike, event: int) -> bool:
        key = self._watching.get_map().get(fd)
        if key is None or not key.events & event:
            return False
        if event == _READ:
            key.data.reader = None
        else:
            key.data.writer = None
        if left := key.events & ~event:
            self._watching.modify(fd, left, key.data)
        else:
            self._watching.unregister(fd)
        return True

    def _failed(self, error: Exception) -> None:
        self.call_exception_handler({"message": "a watcher of a socket failed", "exception": error})
