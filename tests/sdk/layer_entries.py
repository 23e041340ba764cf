"""Entries of layers in a word each, and the tree that they amount to."""

import io

from aegis_sdk.images.base import Entry, Kind
from aegis_sdk.images.erofs import ErofsWriter
from aegis_sdk.images.layers.merge import Merge
from aegis_sdk.images.tree import Directory, Metadata, Node
from tests.sdk.layer_model import Path


def put(path, kind=Kind.FILE, content=b"", **rest):
    metadata = Metadata(**{key: rest.pop(key) for key in list(rest) if key in ("permissions", "uid", "xattrs")})
    return Entry(path=path, kind=kind, content=(content,), size=len(content), metadata=metadata, **rest)


def folder(path, **rest):
    return put(path, Kind.DIRECTORY, **rest)


def link(path, target):
    return put(path, Kind.SYMLINK, target=target)


def hard(path, target):
    return put(path, Kind.HARDLINK, target=target)


def new():
    return Merge(ErofsWriter(io.BytesIO()).add)


def apply(merge, layers):
    for layer in layers:
        merge.apply(layer)


def merged(*layers):
    merge = new()
    apply(merge, layers)
    return merge


def kept(merge):
    """Every path of a tree with what it stands for, as the model has it, and the object that is the inode."""
    found: dict[Path, Node] = {}
    todo: list[tuple[Path, Node]] = [((), merge.root)]
    for path, node in todo:
        found[path] = node
        if isinstance(node, Directory):
            todo += [((*path, name), child) for name, child in node.entries.items()]
    return found
