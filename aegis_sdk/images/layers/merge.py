"""Layers become one tree, by the rules of the OCI image specification (layer.md)."""

from __future__ import annotations

import re
import stat
import struct
from collections.abc import Callable, Iterable, Iterator

import attrs

from aegis_sdk.errors import ImageInvalid
from aegis_sdk.images.base import Entry, Kind
from aegis_sdk.images.erofs import TARGET_MAX, XATTR_ACLS, XATTR_PREFIXES, encode_xattrs
from aegis_sdk.images.layers.paths import Names, Paths, shown
from aegis_sdk.images.tree import Directory, Extent, File, Metadata, Node, Special, Symlink

#: The largest images that people publish (CUDA with frameworks) have some 300,000 entries. Until the disk is written
#: each takes about 1 kB of memory, and the most costly, directories of one entry each, 1.4 kB: 700 MB for so many.
MAX_ENTRIES = 500_000
#: What names, link targets and extended attributes may take beside that; 300,000 entries take some 30 MB.
MAX_HELD = 256 << 20
#: What an extended attribute takes beside its name and value.
XATTR_COST = 100
#: What files may claim to hold, holes included: several times the largest images that people publish.
MAX_SIZE = 64 << 30

_MARK = b".wh."
_OPAQUE = b".wh..wh..opq"
_ACL_HEADER, _ACL_ENTRY = struct.Struct("<I"), struct.Struct("<HHI")  # linux/posix_acl_xattr.h
_ACL_VERSION = 2
# The tags of an ACL's entries: owner, users, group, groups, mask, others; who is named needs a mask.
_ACL_TAGS = re.compile(rb"\x01(\x04|\x02*\x04\x08*\x10)\x20")
_ACL_NAMED = (0x02, 0x08)
_AUFS = b".wh..wh."  # what aufs kept for itself, and old Dockers left in layers
_KINDS = {
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
}

Store = Callable[[Iterable[bytes]], Extent]


@attrs.define
class Merge:
    """A tree in the making: *root* is what the layers applied so far amount to.

    *store* keeps one file's bytes. A name is *fresh* if the layer that is being applied has said something of it, and a
    directory is *bare* once a whiteout has left nothing from lower layers in it: no whiteout has to look into it again,
    so that no layer can have the same names looked at over and over.
    """

    _store: Store
    root: Directory = attrs.field(init=False, factory=lambda: Directory({}, Metadata()))
    _files: list[File] = attrs.field(init=False, factory=list)
    _entries: int = attrs.field(init=False, default=0)
    _held: int = attrs.field(init=False, default=0)
    _size: int = attrs.field(init=False, default=0)
    _fresh: dict[Directory, set[bytes]] = attrs.field(init=False, factory=dict)
    _bare: set[Directory] = attrs.field(init=False, factory=set)
    _paths: Paths = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._paths = Paths(self.root, self._make)

    def apply(self, entries: Iterable[Entry]) -> None:
        """Change the tree as the next layer says."""
        self._fresh.clear()
        self._bare.clear()
        for entry in entries:
            self._count(len(entry.path) + len(entry.target))
            self._apply(entry, self._paths.names(entry.path))

    def dead(self) -> Iterator[Extent]:
        """Where files are stored that no name stands for any more."""
        alive = {node for directory in _directories(self.root) for node in directory.entries.values()}
        return (file.content for file in self._files if file.content.size and file not in alive)

    def _count(self, held: int) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise ImageInvalid(f"the image has more than {MAX_ENTRIES:,} files and directories")
        self._hold(held)

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > MAX_HELD:
            raise ImageInvalid(f"the image's names and attributes take more than {MAX_HELD >> 20} MiB")

    def _apply(self, entry: Entry, names: Names) -> None:
        if not names:
            self._apply_root(entry)
            return
        if _MARK in entry.path and _is_of_aufs(names, entry.path):
            return
        if names[-1].startswith(_MARK):
            self._white_out(names, entry.path)
            return
        parent = self._paths.directory(names[:-1])
        if entry.kind is Kind.CHARACTER_DEVICE and entry.device == (0, 0):
            # On the lower side of an overlay, as which a guest has it, such a device is itself a whiteout.
            self._remove(parent, names[-1])
        else:
            self._add(parent, names[-1], entry)

    def _apply_root(self, entry: Entry) -> None:
        if entry.kind is not Kind.DIRECTORY:
            raise ImageInvalid(
                f"{shown(entry.path)}: the root of an image must be a directory, not a {entry.kind.value}"
            )
        self.root.metadata = self._metadata(entry)

    def _add(self, parent: Directory, name: bytes, entry: Entry) -> None:
        old = parent.entries.get(name)
        if entry.kind is Kind.DIRECTORY and isinstance(old, Directory):
            old.metadata = self._metadata(entry)
            self._mark(parent, name)
        else:
            self._put(parent, name, self._node(entry))

    def _node(self, entry: Entry) -> Node:
        match entry.kind:
            case Kind.FILE:
                return self._file(entry)
            case Kind.DIRECTORY:
                return Directory({}, self._metadata(entry))
            case Kind.SYMLINK:
                return Symlink(_target(entry), self._metadata(entry))
            case Kind.HARDLINK:
                return self._linked(entry)
            case kind:
                return Special(_KINDS[kind], self._metadata(entry), *entry.device)

    def _file(self, entry: Entry) -> File:
        self._grow(entry.size)
        extent = self._store(entry.content)
        self._grow(extent.size - entry.size)
        file = File(extent, self._metadata(entry))
        self._files.append(file)
        return file

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MAX_SIZE:
            raise ImageInvalid(f"the image's files hold more than {MAX_SIZE >> 30} GiB")

    def _linked(self, entry: Entry) -> Node:
        node = self._paths.find(self._paths.names(entry.target))
        if node is None or isinstance(node, Directory):
            seen = "which is a directory" if node else "which is not there"
            raise ImageInvalid(f"{shown(entry.path)} is a hard link to {shown(entry.target)}, {seen}")
        return node

    def _metadata(self, entry: Entry) -> Metadata:
        metadata = entry.metadata
        if not metadata.xattrs:
            return metadata
        kept = {name: value for name, value in metadata.xattrs.items() if _is_kept(name, value)}
        self._hold(sum(XATTR_COST + len(name) + len(value) for name, value in kept.items()))
        try:
            encode_xattrs(kept)
        except ValueError as error:  # now, and not when all layers have been read
            raise ImageInvalid(f"{shown(entry.path)}: {error}") from error
        return attrs.evolve(metadata, xattrs=kept)

    def _make(self, parent: Directory, name: bytes) -> Directory:
        """A directory that no layer has named, but something below."""
        self._count(len(name))
        made = Directory({}, Metadata())
        self._put(parent, name, made)
        return made

    def _put(self, parent: Directory, name: bytes, node: Node) -> None:
        self._forget(parent.entries.get(name))
        parent.entries[name] = node
        self._mark(parent, name)

    def _mark(self, parent: Directory, name: bytes) -> None:
        self._fresh.setdefault(parent, set()).add(name)

    def _remove(self, parent: Directory, name: bytes) -> None:
        self._forget(parent.entries.pop(name, None))

    def _forget(self, node: Node | None) -> None:
        if isinstance(node, Directory | Symlink):
            self._paths.forget()

    def _white_out(self, names: Names, path: bytes) -> None:
        hidden = names[-1].removeprefix(_MARK)
        if hidden in (b"", b".", b".."):
            raise ImageInvalid(f"{shown(path)} is a whiteout of nothing that can be a name")
        parent = self._paths.seek(names[:-1])
        if not parent:
            return
        if names[-1] == _OPAQUE:
            self._bare_below(parent)
            return
        below = parent.entries.get(hidden)
        if isinstance(below, Directory):
            self._bare_below(below)
        self._settle(parent, hidden)

    def _bare_below(self, top: Directory) -> None:
        """Leave in *top* and below only what the current layer has put there."""
        found = [top]
        for directory in found:
            below = (node for node in directory.entries.values() if isinstance(node, Directory))
            found += [] if directory in self._bare else below
        for directory in reversed(found):
            if directory not in self._bare:
                for name in list(directory.entries):
                    self._settle(directory, name)
                self._bare.add(directory)

    def _settle(self, parent: Directory, name: bytes) -> None:
        """Remove what *parent* has as *name*, which is bare below, if the current layer knows nothing of it."""
        node = parent.entries.get(name)
        if node is None or name in self._fresh.get(parent, ()):
            return
        if isinstance(node, Directory) and node.entries:
            # It stays for what this layer has put into it, and is as if it had been made for that.
            node.metadata = Metadata()
            self._mark(parent, name)
        else:
            self._remove(parent, name)


def _is_of_aufs(names: Names, path: bytes) -> bool:
    *parents, name = names
    if any(parent.startswith(_AUFS) for parent in parents) or (name.startswith(_AUFS) and name != _OPAQUE):
        return True
    if any(parent.startswith(_MARK) for parent in parents):
        raise ImageInvalid(f"{shown(path)}: no directory's name may begin with .wh.")
    return False


def _is_kept(xattr: bytes, value: bytes) -> bool:
    if xattr in XATTR_ACLS:
        return _is_acl(value)
    # What an overlay notes in its upper directory is no part of an image, and would be obeyed by the guest's own.
    if xattr.startswith(b"trusted.overlay."):
        return False
    space, _, name = xattr.partition(b".")
    return bool(name) and space + b"." in XATTR_PREFIXES


def _is_acl(value: bytes) -> bool:
    """Whether Linux can read it: nobody can use a directory with one that it cannot, and a guest's root is one."""
    header, body = value[: _ACL_HEADER.size], value[_ACL_HEADER.size :]
    if header != _ACL_HEADER.pack(_ACL_VERSION) or len(body) % _ACL_ENTRY.size:
        return False
    entries = list(_ACL_ENTRY.iter_unpack(body))
    if any(tag > 0xFF or rights > 7 or (tag in _ACL_NAMED and who == 2**32 - 1) for tag, rights, who in entries):
        return False
    return bool(_ACL_TAGS.fullmatch(bytes(tag for tag, _, _ in entries)))


def _target(entry: Entry) -> bytes:
    if not 0 < len(entry.target) <= TARGET_MAX or b"\0" in entry.target:
        raise ImageInvalid(f"{shown(entry.path)}: a symbolic link's target has 1 to {TARGET_MAX} bytes and no NUL")
    return entry.target


def _directories(root: Directory) -> Iterator[Directory]:
    todo = [root]
    while todo:
        directory = todo.pop()
        yield directory
        todo += [node for node in directory.entries.values() if isinstance(node, Directory)]
