"""The file tree of a guest's disk, as values: what every image source makes and the EROFS writer stores.

A hard link is one inode that stands under several names: put the same object into several places.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping

import attrs


@attrs.frozen(kw_only=True)
class Extent:
    """Where the writer has put a file's bytes: first block and length in bytes."""

    block: int
    size: int


@attrs.frozen(kw_only=True, eq=False)
class Metadata:
    """What every inode has beside its kind: permissions, owner, time and extended attributes."""

    permissions: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    xattrs: Mapping[bytes, bytes] = attrs.field(factory=dict)


@attrs.frozen(eq=False)
class File:
    """A regular file whose bytes the writer has already stored."""

    content: Extent
    metadata: Metadata


@attrs.frozen(eq=False)
class Symlink:
    """A symbolic link; *target* is kept as it is, whatever it points to."""

    target: bytes
    metadata: Metadata


@attrs.frozen(eq=False)
class Special:
    """A character or block device, a fifo or a socket; *kind* is the S_IF* bit of its mode."""

    kind: int
    metadata: Metadata
    major: int = 0
    minor: int = 0


@attrs.define(eq=False)
class Directory:
    """A directory and what stands in it, without `.` and `..`; both may change until its tree is written."""

    entries: dict[bytes, Node]
    metadata: Metadata


Node = File | Symlink | Special | Directory


def mode(node: Node) -> int:
    """The node's st_mode: its kind and its permissions."""
    match node:
        case File():
            kind = stat.S_IFREG
        case Symlink():
            kind = stat.S_IFLNK
        case Directory():
            kind = stat.S_IFDIR
        case Special():
            kind = node.kind
    return kind | node.metadata.permissions
