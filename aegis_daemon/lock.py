"""One daemon a home: who holds the lock on its file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aegis_sdk.artifacts import private
from aegis_sdk.errors import DaemonUnavailable


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Nobody else is in this block for the same *path*; DaemonUnavailable says who is. A crash leaves it, too."""
    # The file stays: who removed it could remove one that another has just locked.
    private(path.parent)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)  # for people: nobody is ended because of it
        yield
    except BlockingIOError:
        runs = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
        raise DaemonUnavailable(
            f"a daemon runs already for {path.parent}" + (f": process {runs}" if runs else ""),
            hint="`aegis status` asks it how it is, `aegis down` ends it",
        ) from None
    finally:
        os.close(handle)
