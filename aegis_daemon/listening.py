"""Sockets to listen on that are this user's alone from their first moment."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aegis_sdk import sockets
from aegis_sdk.errors import DaemonUnavailable

_BACKLOG = 1024


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket at *path*, in the place of one that nobody listens on any more; it is gone when the block is left.

    Only who is alone in its home may call it, before it has threads.
    """
    _refuse_others(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with made:
        # Made under another name and renamed: what was there is replaced at once, and a link is not followed.
        new = path.with_name(f".{path.name}")
        new.unlink(missing_ok=True)
        _bind(made, new)
        made.listen(_BACKLOG)
        new.rename(path)
        number = path.lstat().st_ino
        try:
            yield made
        finally:
            _unlink(path, number)


def _bind(made: socket.socket, path: Path) -> None:
    before = os.umask(0o177)
    try:
        with sockets.address(path) as where:
            made.bind(where)
    finally:
        os.umask(before)


def _refuse_others(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISSOCK(mode) or stat.S_ISLNK(mode)):
        raise DaemonUnavailable(
            f"{path}, where the daemon's socket belongs, is something else", hint="move it out of the way"
        )


def _unlink(path: Path, number: int) -> None:
    try:
        if path.lstat().st_ino == number:
            path.unlink()
    except FileNotFoundError:
        pass  # the whole home may have been removed
