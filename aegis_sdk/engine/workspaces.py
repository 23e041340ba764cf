"""Removing a workspace, in which guests may have made any tree that a file system takes."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

_DEEPEST = 100_000  # levels
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(directory: Path) -> None:
    """Remove *directory* with all that is in it, and nothing else, however deep it is; fine if it is not there.

    OSError as the system says.
    """
    try:
        top = _opened(directory)
    except FileNotFoundError:
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    with suppress(FileNotFoundError):
        directory.rmdir()


def _empty(top: int) -> None:
    # What is in a directory comes up beside it before it goes: so no path is ever long, and no call deep.
    for _ in range(_DEEPEST):  # a guest that still runs could go on for ever
        entries = list(os.scandir(top))
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _flatten(entry.name, top)
            else:
                _unlink(entry.name, top)
        if not entries:
            return


def _flatten(name: str, top: int) -> None:
    here = _opened(name, within=top)
    try:
        for entry in list(os.scandir(here)):
            if entry.is_dir(follow_symlinks=False):
                os.close(_opened(entry.name, within=here))  # who moves a directory must be able to write to it
                os.rename(entry.name, os.urandom(8).hex(), src_dir_fd=here, dst_dir_fd=top)
            else:
                _unlink(entry.name, here)
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=top)


def _unlink(name: str, directory: int) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _opened(path: str | Path, *, within: int | None = None) -> int:
    """A descriptor of a directory, and not of what a link leads to, in which this user may do anything."""
    try:
        handle = os.open(path, _ENTER, dir_fd=within)
    except PermissionError:
        _allow(path, within)
        handle = os.open(path, _ENTER, dir_fd=within)
    try:
        os.fchmod(handle, 0o700)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _allow(path: str | Path, within: int | None) -> None:
    if sys.platform != "linux":
        os.chmod(path, 0o700, dir_fd=within, follow_symlinks=False)
        return
    # Linux changes no mode without following links, but by a descriptor that stands for the directory alone.
    handle = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
    try:
        Path(f"/proc/self/fd/{handle}").chmod(0o700)
    finally:
        os.close(handle)
