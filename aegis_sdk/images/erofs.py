"""Write a tree as an EROFS image: uncompressed, deterministic, its data streamed to disk as it comes.

The image is the superblock's block, then file data in the order of `add`, then what finish() makes:
directories and long link targets, and the metadata area with the inodes. The format is the kernel's
fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst; names in comments are from there.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import BinaryIO

import attrs

from aegis_sdk.images.holes import HOLE, punch, runs
from aegis_sdk.images.tree import Directory, Extent, File, Metadata, Node, Special, Symlink, mode

BLOCK = 4096
BATCH = 256 * BLOCK
MAX_BLOCKS = 2**32 - 1

NAME_MAX = 255
TARGET_MAX = 4095
XATTR_VALUE_MAX = 2**16 - 1
OWNER_MAX = 2**32 - 2  # the last number means "no owner" to Linux
MAJOR_MAX = 2**12 - 1
MINOR_MAX = 2**20 - 1

SUPERBLOCK_OFFSET = 1024
SUPERBLOCK = struct.Struct("<IIIBBHQQIIII16s16sI44x")
MAGIC = 0xE0F5E1E2
FEATURE_COMPAT_MTIME = 2
BLOCK_BITS = 12

INODE = struct.Struct("<HHHHQIIIIqII16x")  # erofs_inode_extended
FORMAT_PLAIN = 0 << 1 | 1  # data layout, and the bit of the extended inode
FORMAT_INLINE = 2 << 1 | 1
SLOT = 32
# Aligned to its size, no inode and no xattr header stands across two blocks. The first place stays
# empty: the root would have inode number 0 there, which readdir's callers take for a deleted name.
ALIGNMENT = INODE.size
ROOT_OFFSET = ALIGNMENT

XATTR_HEADER = struct.Struct("<IB7x")  # erofs_xattr_ibody_header: name filter, number of shared ones
XATTR_ENTRY = struct.Struct("<BBH")
XATTR_UNIT = 4
XATTRS_MAX = XATTR_HEADER.size + XATTR_UNIT * (2**16 - 2)  # i_xattr_icount has 16 bits
XATTR_PREFIXES = {b"user.": 1, b"trusted.": 4, b"security.": 6}
XATTR_ACLS = {b"system.posix_acl_access": 2, b"system.posix_acl_default": 3}

DIRENT = struct.Struct("<QHBx")
FILE_TYPES = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
SPECIALS = frozenset({stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK})

Page = list[bytes]


class ErofsWriter:
    """An EROFS image in the making; *out* is a buffered, seekable, empty file and stays open."""

    def __init__(self, out: BinaryIO) -> None:
        if out.seek(0, os.SEEK_END):
            raise ValueError("an EROFS image can only be written to an empty file")
        self._out = out
        self._blocks = 1
        self._finished = False

    def add(self, chunks: Iterable[bytes | bytearray | memoryview]) -> Extent:
        """Store one file's bytes as they come and return where; blocks of zeros take no space on disk."""
        if self._finished:
            raise ValueError("the image is finished")
        first, size, pending = self._blocks, 0, bytearray()
        for chunk in chunks:
            if chunk is HOLE:
                size += self._leap(pending)
                continue
            size -= len(pending)
            pending += chunk
            size += len(pending)
            if len(pending) >= BATCH:
                self._drain(pending)
        pending += bytes(-len(pending) % BLOCK)
        self._drain(pending)
        return Extent(block=first if size else 0, size=size)

    def discard(self, extent: Extent) -> None:
        """Forget a file that was added, and give its space back; what is left of it are zeros."""
        if self._finished:
            raise ValueError("the image is finished")
        _check_extent(extent, self._blocks)
        punch(self._out, extent.block * BLOCK, _align(extent.size, BLOCK))

    def finish(self, root: Directory) -> None:
        """Write names and inodes, and last the superblock, without which there is nothing to mount."""
        plan = _Plan(self._blocks)
        plan.lay_out(root)
        contents = [self._store_content(inode, plan.inodes) for inode in plan.inodes.values()]
        identity = blake2b(digest_size=16)  # overlayfs wants a UUID that is not null, nobody else asks
        metadata = self.add(_hashed(_metadata(plan.inodes.values(), contents), identity.update))
        self._finished = True
        self._out.truncate(self._blocks * BLOCK)
        self._out.seek(SUPERBLOCK_OFFSET)
        self._out.write(
            _superblock(len(plan.inodes), blocks=self._blocks, metadata=metadata.block, uuid=identity.digest())
        )
        self._out.flush()

    def _drain(self, pending: bytearray) -> None:
        whole = len(pending) - len(pending) % BLOCK
        start = self._blocks * BLOCK
        # Counted before it is written: after a failed add() the next one must not reuse dirty blocks.
        self._blocks += whole // BLOCK
        if self._blocks > MAX_BLOCKS:
            raise ValueError("the image is larger than 16 TiB")
        for begin, end in runs(pending, whole, unit=BLOCK):
            self._out.seek(start + begin)
            with memoryview(pending)[begin:end] as run:
                self._out.write(run)
        del pending[:whole]

    def _leap(self, pending: bytearray) -> int:
        """The size of a HOLE, which now stands behind *pending* without having been looked at."""
        rest = -len(pending) % BLOCK
        pending += bytes(rest)
        self._drain(pending)
        self._blocks += (len(HOLE) - rest) // BLOCK
        pending += bytes(-rest % BLOCK)
        return len(HOLE)

    def _store_content(self, inode: _Inode, inodes: Mapping[Node, _Inode]) -> tuple[int, bytes]:
        match inode.node:
            case File(content):
                return content.block, b""
            case Symlink(target):
                pages = [target]
            case Directory() as directory:
                places = {**directory.entries, b".": directory, b"..": inode.parent}
                pages = [_encode_page(page, [inodes[places[name]] for name in page]) for page in inode.pages]
            case Special(major=major, minor=minor):
                return _device(major, minor), b""
        tail = pages.pop() if inode.inline else b""
        return self.add(page.ljust(BLOCK, b"\0") for page in pages).block, tail


@attrs.define(eq=False, kw_only=True)
class _Inode:
    node: Node
    name: bytes
    parent: Directory
    mode: int
    nid: int
    size: int
    xattrs: bytes
    pages: list[Page]
    inline: bool
    links: int


@attrs.define
class _Plan:
    """Where each inode stands in the metadata area: its size depends on names only, so one walk does."""

    _data_end: int
    inodes: dict[Node, _Inode] = attrs.field(factory=dict)
    _end: int = ROOT_OFFSET

    def lay_out(self, root: Directory) -> None:
        self._admit(root, b"", root)
        queue = [root]
        for directory in queue:
            for name in sorted(directory.entries):
                node = directory.entries[name]
                if node not in self.inodes:
                    self._admit(node, name, directory)
                    if isinstance(node, Directory):
                        queue.append(node)
                elif isinstance(node, Directory):
                    raise ValueError(f"{self._path(directory, name)!r}: the directory is already in another place")
                else:
                    self.inodes[node].links += 1

    def _admit(self, node: Node, name: bytes, parent: Directory) -> None:
        try:
            _check(node, self._data_end)
            self._place(node, name, parent)
        except ValueError as error:
            raise ValueError(f"{self._path(parent, name)!r}: {error}") from error

    def _place(self, node: Node, name: bytes, parent: Directory) -> None:
        pages = _paginate(sorted([b".", b"..", *node.entries])) if isinstance(node, Directory) else []
        size, xattrs = _size(node, pages), encode_xattrs(node.metadata.xattrs)
        head = INODE.size + len(xattrs)
        tail = (size - 1) % BLOCK + 1
        inline = isinstance(node, Directory | Symlink) and head + tail <= BLOCK
        self.inodes[node] = _Inode(
            node=node,
            name=name,
            parent=parent,
            mode=mode(node),
            nid=self._claim(head + tail if inline else head) // SLOT,
            size=size,
            xattrs=xattrs,
            pages=pages,
            inline=inline,
            links=_subdirectories(node) + 2 if isinstance(node, Directory) else 1,
        )

    def _claim(self, length: int) -> int:
        # Inline data may not cross a block's end (erofs_map_blocks), nor may a short link's xattrs before it.
        if self._end % BLOCK + length > BLOCK >= length:
            self._end = _align(self._end, BLOCK)
        offset = self._end
        self._end = _align(offset + length, ALIGNMENT)
        return offset

    def _path(self, parent: Directory, name: bytes) -> str:
        names = [name]
        while names[-1]:
            inode = self.inodes[parent]
            names.append(inode.name)
            parent = inode.parent
        return b"/".join(reversed(names)).decode("utf-8", "surrogateescape") or "/"


def _align(offset: int, unit: int) -> int:
    return offset + -offset % unit


def _subdirectories(node: Directory) -> int:
    return sum(isinstance(entry, Directory) for entry in node.entries.values())


def _size(node: Node, pages: list[Page]) -> int:
    match node:
        case File(content):
            return content.size
        case Symlink(target):
            return len(target)
        case Directory():
            return (len(pages) - 1) * BLOCK + sum(DIRENT.size + len(name) for name in pages[-1])
        case Special():
            return 0


def _paginate(names: list[bytes]) -> list[Page]:
    """The names in the blocks of a directory, each block filled as far as whole names go."""
    pages: list[Page] = [[]]
    room = BLOCK
    for name in names:
        room -= DIRENT.size + len(name)
        if room < 0:
            pages.append([])
            room = BLOCK - DIRENT.size - len(name)
        pages[-1].append(name)
    return pages


def _encode_page(names: Page, inodes: list[_Inode]) -> bytes:
    entries, offset = [], DIRENT.size * len(names)
    for name, inode in zip(names, inodes, strict=True):
        entries.append(DIRENT.pack(inode.nid, offset, FILE_TYPES[stat.S_IFMT(inode.mode)]))
        offset += len(name)
    return b"".join(entries + names)


def encode_xattrs(xattrs: Mapping[bytes, bytes]) -> bytes:
    """What stands behind an inode with these extended attributes; ValueError if none can have them."""
    if not xattrs:
        return b""
    entries = [_encode_xattr(name, value) for name, value in sorted(xattrs.items())]
    encoded = XATTR_HEADER.pack(0, 0) + b"".join(entries)
    if len(encoded) > XATTRS_MAX:
        raise ValueError(f"the extended attributes take more than {XATTRS_MAX} bytes")
    return encoded


def _encode_xattr(name: bytes, value: bytes) -> bytes:
    if len(name) > NAME_MAX or b"\0" in name:
        raise ValueError(f"bad name of an extended attribute: {name!r}")
    if len(value) > XATTR_VALUE_MAX:
        raise ValueError(f"extended attribute {name!r} has a value over {XATTR_VALUE_MAX} bytes")
    index, suffix = _split_xattr(name)
    entry = XATTR_ENTRY.pack(len(suffix), index, len(value)) + suffix + value
    return entry + bytes(-len(entry) % XATTR_UNIT)


def _split_xattr(name: bytes) -> tuple[int, bytes]:
    if name in XATTR_ACLS:
        return XATTR_ACLS[name], b""
    for prefix, index in XATTR_PREFIXES.items():
        if name.startswith(prefix) and name != prefix:
            return index, name.removeprefix(prefix)
    raise ValueError(f"EROFS cannot hold the extended attribute {name!r}")


def _device(major: int, minor: int) -> int:
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12  # the kernel's new_encode_dev


def _metadata(inodes: Iterable[_Inode], contents: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """The metadata area, piece by piece, each inode at its place."""
    written = 0
    for inode, (union, tail) in zip(inodes, contents, strict=True):
        body = _encode_inode(inode, union) + inode.xattrs + tail
        gap = inode.nid * SLOT - written
        written += gap + len(body)
        yield bytes(gap) + body


def _hashed(pieces: Iterable[bytes], update: Callable[[bytes], None]) -> Iterator[bytes]:
    for piece in pieces:
        update(piece)
        yield piece


def _encode_inode(inode: _Inode, union: int) -> bytes:
    metadata = inode.node.metadata
    seconds, nanoseconds = divmod(metadata.mtime_ns, 10**9)
    return INODE.pack(
        FORMAT_INLINE if inode.inline else FORMAT_PLAIN,
        (len(inode.xattrs) - XATTR_HEADER.size) // XATTR_UNIT + 1 if inode.xattrs else 0,
        inode.mode,
        0,
        inode.size,
        union,
        inode.nid & 0xFFFFFFFF,
        metadata.uid,
        metadata.gid,
        seconds,
        nanoseconds,
        inode.links,
    )


def _superblock(inodes: int, *, blocks: int, metadata: int, uuid: bytes) -> bytes:
    return SUPERBLOCK.pack(
        MAGIC, 0, FEATURE_COMPAT_MTIME, BLOCK_BITS, 0,
        ROOT_OFFSET // SLOT, inodes, 0, 0, blocks, metadata, 0, uuid, b"", 0,
    )  # fmt: skip


def _check(node: Node, data_end: int) -> None:
    _check_metadata(node.metadata)
    match node:
        case File(content):
            _check_extent(content, data_end)
        case Symlink(target):
            _check_target(target)
        case Special():
            _check_special(node)
        case Directory(entries):
            for name in entries:
                _check_name(name)


def _check_name(name: bytes) -> None:
    if not name or name in (b".", b"..") or b"/" in name or b"\0" in name:
        raise ValueError(f"{name!r} cannot be a file's name")
    if len(name) > NAME_MAX:
        raise ValueError(f"the name {name!r} is longer than {NAME_MAX} bytes")


def _check_target(target: bytes) -> None:
    if not 0 < len(target) <= TARGET_MAX or b"\0" in target:
        raise ValueError(f"a symbolic link's target has 1 to {TARGET_MAX} bytes and no NUL")


def _check_extent(extent: Extent, end: int) -> None:
    blocks = -(-extent.size // BLOCK)
    if extent.size < 0 or (extent.size and not 0 < extent.block <= end - blocks):
        raise ValueError("the file's content was not added to this image")


def _check_special(node: Special) -> None:
    if node.kind not in SPECIALS:
        raise ValueError(f"{node.kind:#o} is no kind of device, fifo or socket")
    if not (0 <= node.major <= MAJOR_MAX and 0 <= node.minor <= MINOR_MAX):
        raise ValueError(f"the device number {node.major}:{node.minor} does not fit into 12 and 20 bits")


def _check_metadata(metadata: Metadata) -> None:
    if not 0 <= metadata.permissions <= 0o7777:
        raise ValueError(f"the permissions {metadata.permissions:#o} are not within 0o7777")
    for owner in (metadata.uid, metadata.gid):
        if not 0 <= owner <= OWNER_MAX:
            raise ValueError(f"the owner {owner} is not within 0 and {OWNER_MAX}")
    if not -(2**63) <= metadata.mtime_ns // 10**9 < 2**63:
        raise ValueError("the time of change does not fit into 64 bits of seconds")
