"""The frozen values that file calls give: what a file is, what changed, what a transfer carried."""

from __future__ import annotations

from typing import Literal

import attrs

Kind = Literal["file", "directory", "link", "fifo", "socket", "block device", "character device"]
ChangeKind = Literal["created", "modified", "removed", "moved", "overflow"]


@attrs.frozen(kw_only=True)
class FileInfo:
    """What there is at *path*: *size* in bytes, *mode* its permissions, *target* where a link leads to."""

    name: str
    path: str
    kind: Kind
    size: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    target: str | None = None

    @property
    def mtime(self) -> float:
        """When its contents changed last, in seconds since 1970."""
        return self.mtime_ns / 1e9


@attrs.frozen(kw_only=True)
class Change:
    """Something that happened to *path*; if it was moved, *source* is where from.

    ``overflow``: more happened than could be told, and some of it was lost; *path* is what is being watched.
    """

    kind: ChangeKind
    path: str
    source: str | None = None


@attrs.frozen(kw_only=True)
class Transferred:
    """What an upload or download carried: how many of each, and bytes of contents without holes.

    *left_out* are the paths, below what was carried, of devices, sockets and FIFOs, a thousand at most.
    """

    files: int = 0
    directories: int = 0
    links: int = 0
    bytes: int = 0
    left_out: tuple[str, ...] = ()
