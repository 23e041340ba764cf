"""A reader of EROFS images for the tests: what erofs-utils 1.5 cannot tell (links, all mode bits, xattrs).

It is written from the format's description and has to agree with mkfs.erofs before the tests believe it.
"""

import mmap
import stat
import struct

import attrs

BLOCK = 4096
XATTR_PREFIXES = {
    1: b"user.",
    2: b"system.posix_acl_access",
    3: b"system.posix_acl_default",
    4: b"trusted.",
    6: b"security.",
}


@attrs.frozen
class Inode:
    nid: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    links: int
    size: int
    block: int
    tail: int | None
    xattrs: dict[bytes, bytes]


class Reader:
    """An EROFS file system of extended inodes without compression, read from the format's description."""

    def __init__(self, path):
        with path.open("rb") as file:
            self.image = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self.magic, self.root, self.inodes, self.blocks, self.start = struct.unpack_from(
            "<I10xHQ12xII", self.bytes(1024, 128)
        )

    def bytes(self, offset, size):
        return self.image[offset : offset + size]

    def inode(self, nid):
        at = self.start * BLOCK + nid * 32
        form, xattrs, mode, size, union, uid, gid, seconds, nanoseconds, links = struct.unpack(
            "<HHHxxQI4xIIqII16x", self.bytes(at, 64)
        )
        assert form in (1, 5), "not an extended flat inode"
        end = at + 64 + (12 + 4 * (xattrs - 1) if xattrs else 0)
        return Inode(
            nid, mode, uid, gid, seconds * 10**9 + nanoseconds, links, size, union,
            tail=end if form == 5 else None, xattrs=self.xattrs(at + 64, end),
        )  # fmt: skip

    def xattrs(self, at, end):
        found, at = {}, at + 12
        while at < end:
            length, index, size = struct.unpack("<BBH", self.bytes(at, 4))
            found[XATTR_PREFIXES[index] + self.bytes(at + 4, length)] = self.bytes(at + 4 + length, size)
            at += (4 + length + size + 3) // 4 * 4
        return found

    def content(self, inode):
        if inode.tail is None:
            return self.bytes(inode.block * BLOCK, inode.size)
        whole = inode.size // BLOCK * BLOCK
        assert inode.tail // BLOCK == (inode.tail + inode.size - whole - 1) // BLOCK
        return self.bytes(inode.block * BLOCK, whole) + self.bytes(inode.tail, inode.size - whole)

    def entries(self, inode):
        """The names of a directory in their order on disk, with the inode number and type of each."""
        content, found = self.content(inode), []
        for page in (content[at : at + BLOCK] for at in range(0, len(content), BLOCK)):
            (names,) = struct.unpack_from("<8xH", page)
            heads = list(struct.iter_unpack("<QHBx", page[:names]))
            ends = [offset for _, offset, _ in heads[1:]] + [len(page)]
            found += [(page[at:end].rstrip(b"\0"), nid, kind) for (nid, at, kind), end in zip(heads, ends, strict=True)]
        return found

    def walk(self):
        """Every path with its inode, the root's being empty."""
        todo = [(b"", self.inode(self.root), self.root)]
        for path, inode, parent in todo:
            yield path, inode
            if stat.S_ISDIR(inode.mode):
                entries = self.entries(inode)
                names = {name: nid for name, nid, _ in entries}
                assert [name for name, _, _ in entries] == sorted(names)
                assert (names.pop(b"."), names.pop(b"..")) == (inode.nid, parent)
                todo += [(path + b"/" + name, self.inode(nid), inode.nid) for name, nid in names.items()]
