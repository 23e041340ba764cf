"""The rules by which layers become a tree, as plainly as they can be put: a dictionary of paths, and no care for speed.

A path is a tuple of names, the root's being empty. It knows nothing of the code that it is compared with but the values
that go in.
"""

import attrs
from hypothesis import strategies as st

from aegis_sdk.images.base import Entry, Kind
from aegis_sdk.images.tree import Metadata

Path = tuple[bytes, ...]
IMPLICIT = (0o755, 0, 0, 0)
LOOP = 255


class Refused(Exception):
    """No image may say that."""


@attrs.define(eq=False)
class Inode:
    """What a path stands for; hard links are paths with the same one."""

    kind: Kind
    about: tuple[int, int, int, int] = IMPLICIT
    content: bytes = b""
    target: bytes = b""
    device: tuple[int, int] = (0, 0)


def is_below(path, top):
    return path[: len(top)] == top


def names(text):
    return tuple(name for name in text.split(b"/") if name not in (b"", b"."))


class Model:
    """A tree to which layers are applied, the lowest first."""

    def __init__(self):
        self.tree: dict[Path, Inode] = {(): Inode(Kind.DIRECTORY)}
        self.fresh: set[Path] = set()

    def is_directory(self, path):
        return path in self.tree and self.tree[path].kind is Kind.DIRECTORY

    def resolve(self, path):
        """Where *path* leads when every symbolic link on the way, the last one too, is followed below the root."""
        here: Path = ()
        todo, links = list(path), 0
        while todo:
            name = todo.pop(0)
            if name == b"..":
                here = here[:-1]
                continue
            inode = self.tree.get((*here, name))
            if inode and inode.kind is Kind.SYMLINK:
                links += 1
                if links > LOOP:
                    raise Refused("a loop")
                here = () if inode.target.startswith(b"/") else here
                todo = [*names(inode.target), *todo]
            else:
                here = (*here, name)
        return here

    def remove(self, top):
        """Nothing is at *top* or below, as if no layer had ever said so."""
        self.tree = {path: inode for path, inode in self.tree.items() if not is_below(path, top)}
        self.fresh = {path for path in self.fresh if not is_below(path, top)}

    def put(self, path, inode):
        self.remove(path)
        self.tree[path] = inode
        self.fresh.add(path)

    def make_directory(self, path):
        for length in range(1, len(path) + 1):
            if not self.is_directory(path[:length]):
                self.put(path[:length], Inode(Kind.DIRECTORY))

    def hide(self, top):
        """What lower layers have at *top* and below is gone; what this layer has there, and its parents, stays."""
        for path in [path for path in self.tree if is_below(path, top)]:
            if path in self.fresh:
                continue
            if any(is_below(other, path) for other in self.fresh):
                self.tree[path] = Inode(Kind.DIRECTORY)
                self.fresh.add(path)
            else:
                del self.tree[path]

    def apply(self, layer):
        self.fresh = set()
        for entry in layer:
            self.apply_entry(entry)

    def apply_entry(self, entry):
        path = names(entry.path)
        if b".." in path:
            raise Refused("goes up")
        if not path:
            if entry.kind is not Kind.DIRECTORY:
                raise Refused("the root is no directory")
            self.tree[()].about = about(entry)
            return
        parent = self.resolve(path[:-1])
        if path[-1].startswith(b".wh."):
            self.white_out(parent, path[-1][4:])
        else:
            self.make_directory(parent)
            self.add(entry, (*parent, path[-1]))

    def white_out(self, parent, name):
        if name in (b"", b".", b".."):
            raise Refused("hides no name")
        if not self.is_directory(parent):
            return
        if name == b".wh..opq":
            for child in [child for child in self.tree if child[:-1] == parent and child]:
                self.hide(child)
        else:
            self.hide((*parent, name))

    def add(self, entry, path):
        if entry.kind is Kind.CHARACTER_DEVICE and entry.device == (0, 0):
            self.remove(path)
        elif entry.kind is Kind.DIRECTORY and self.is_directory(path):
            self.tree[path].about = about(entry)
            self.fresh.add(path)
        elif entry.kind is Kind.HARDLINK:
            self.put(path, self.linked(names(entry.target)))
        else:
            content = b"".join(entry.content)
            self.put(path, Inode(entry.kind, about(entry), content, entry.target, entry.device))

    def linked(self, path):
        if b".." in path or not path:
            raise Refused("no file can be there")
        found = self.tree.get((*self.resolve(path[:-1]), path[-1]))
        if not found or found.kind is Kind.DIRECTORY:
            raise Refused("no file is there")
        return found


def about(entry):
    metadata = entry.metadata
    return metadata.permissions, metadata.uid, metadata.gid, metadata.mtime_ns


NAMES = [b"a", b"b", b"c"]
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map(b"/".join)
odd_paths = st.sampled_from([b"/a", b"./b", b"a/", b"a//b/.", b".", b"a/../b", b"../a", b"/", b"c/.."])
targets = st.sampled_from(
    [b"a", b"b", b"/c", b"..", b"../..", b"../../a", b"/b/c", b"b/../c", b".", b"/", b"a/x/../../b", b"c/a"]
)
metadatas = st.builds(
    Metadata, permissions=st.integers(0, 0o7777), uid=st.integers(0, 9), mtime_ns=st.integers(0, 10**10)
)
devices = st.sampled_from([(0, 0), (0, 0), (1, 3)])


def entry(path, kind, metadata, *, content=b"", target=b"", device=(0, 0)):
    return Entry(
        path=path, kind=kind, metadata=metadata, content=(content,), size=len(content), target=target, device=device
    )


def white_out(path, name):
    parent, slash, last = path.rpartition(b"/")
    return entry(parent + slash + (name or b".wh." + last), Kind.FILE, Metadata())


entries = st.one_of(
    st.builds(entry, paths, st.just(Kind.FILE), metadatas, content=st.binary(max_size=6)),
    st.builds(entry, paths, st.just(Kind.DIRECTORY), metadatas),
    st.builds(entry, paths, st.just(Kind.SYMLINK), metadatas, target=targets),
    st.builds(entry, paths, st.just(Kind.HARDLINK), metadatas, target=paths),
    st.builds(entry, paths, st.just(Kind.CHARACTER_DEVICE), metadatas, device=devices),
    st.builds(white_out, paths, st.sampled_from([b"", b"", b".wh..wh..opq"])),
    st.builds(entry, paths | odd_paths, st.sampled_from([Kind.DIRECTORY, Kind.FIFO]), metadatas),
)
layers = st.lists(entries, max_size=8)
stacks = st.lists(layers, max_size=4)
