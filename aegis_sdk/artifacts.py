"""Files that are made once and then shared by every guest: kernels, harness disks, image disks."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import attrs


def edition(source: Path) -> str:
    """A name for what *source* holds now, to name what is made of it.

    Made of what the system says of the file, not of its bytes: to read kernel, harness and busybox at every boot would
    cost more than all else that happens before it.
    """
    about = source.stat()
    return f"{about.st_dev:x}-{about.st_ino:x}-{about.st_size:x}-{about.st_mtime_ns:x}"


def private(directory: Path) -> Path:
    """*directory*, made with its parents, where they are missing, for nobody but this user."""
    if not directory.exists():  # mkdir would give the parents everybody's rights
        private(directory.parent)
        directory.mkdir(exist_ok=True, mode=0o700)
    return directory


@attrs.frozen
class Artifacts:
    """A directory of files that never change once they are there."""

    directory: Path

    def get(self, name: str, make: Callable[[BinaryIO], None]) -> Path:
        """The file *name*, written by *make* if it is not there yet; a torn one is never seen.

        Of several processes that want the same file at once, one makes it. OSError as the system says.
        """
        path = self.directory / name
        if path.exists():
            return path
        with self.locked() as directory:
            if not path.exists():
                _write(path, directory, make)
        return path

    @contextmanager
    def locked(self) -> Iterator[int]:
        """The directory's descriptor, while no other process makes or removes a file there."""
        # The directory itself is the lock file: nothing to leave behind, and a crash releases it.
        while True:
            private(self.directory)
            try:
                handle = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue  # who held the lock has removed it
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if os.fstat(handle).st_nlink:  # as above
                    yield handle
                    return
            finally:
                os.close(handle)


def _write(path: Path, directory: int, make: Callable[[BinaryIO], None]) -> None:
    if sys.platform != "linux":
        _write_named(path, make)
        return
    try:
        handle = os.open(path.parent, os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        # Some file systems (NFS, overlayfs before Linux 6.3) cannot make a file without a name.
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise
        _write_named(path, make)
        return
    with os.fdopen(handle, "w+b") as out:
        _fill(out, make)
        # Linked only when whole: a process killed before this line has left nothing.
        # (With a directory given, os.link is linkat(2), which alone follows the link in /proc.)
        os.link(f"/proc/self/fd/{out.fileno()}", path.name, dst_dir_fd=directory, follow_symlinks=True)


def _write_named(path: Path, make: Callable[[BinaryIO], None]) -> None:
    # One fixed name, under the lock: what a killed process left is overwritten by the next.
    partial = path.with_name(".partial")
    try:
        with partial.open("w+b") as out:
            _fill(out, make)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _fill(out: BinaryIO, make: Callable[[BinaryIO], None]) -> None:
    make(out)
    out.flush()
    os.fsync(out.fileno())
    os.fchmod(out.fileno(), 0o444)
