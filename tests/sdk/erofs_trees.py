"""Trees for the EROFS tests: drawn by hypothesis, written to an image, and looked for in it afterwards."""

import os
import resource
import stat
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import attrs
from hypothesis import strategies as st

from aegis_sdk.images.erofs import BLOCK, ErofsWriter
from aegis_sdk.images.tree import Directory, File, Metadata, Special, Symlink, mode
from tests.sdk.erofs_reader import XATTR_PREFIXES, Reader


@attrs.frozen(eq=False)
class Blob:
    """A file to be: its bytes, before a writer has stored them."""

    content: bytes
    metadata: Metadata


PLAIN = Metadata()


def blob(content, metadata=PLAIN):
    return Blob(content, metadata)


def link(target, metadata=PLAIN):
    return Symlink(target, metadata)


def directory(entries, metadata=PLAIN):
    """A directory whose files may be Blobs."""
    return Directory(entries, metadata)


def write(path, root):
    """Write a tree in which files are Blobs."""
    with path.open("wb") as out:
        writer = ErofsWriter(out)
        writer.finish(store(writer, root))


def store(writer, root):
    """The tree with Files in place of its Blobs."""
    stored = {}

    def leaf(node):
        if isinstance(node, Blob) and node not in stored:
            stored[node] = File(writer.add([node.content]), node.metadata)
        return stored.get(node, node)

    top = directory({}, root.metadata)
    todo = [(root, top)]
    for source, target in todo:
        for name, node in source.entries.items():
            if isinstance(node, Directory):
                target.entries[name] = directory({}, node.metadata)
                todo.append((node, target.entries[name]))
            else:
                target.entries[name] = leaf(node)
    return top


def fsck(path, *options):
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)  # it recurses, a deep tree is not its end
    return subprocess.run(
        ["fsck.erofs", *options, path],
        check=False,
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_STACK, unlimited),
    )


def paths(root):
    todo = [(b"", root)]
    for path, node in todo:
        yield path, node
        if isinstance(node, Directory):
            todo += [(path + b"/" + name, child) for name, child in node.entries.items()]


def kind_and_permissions(node):
    return stat.S_IFREG | node.metadata.permissions if isinstance(node, Blob) else mode(node)


def link_count(node, names):
    if isinstance(node, Directory):
        return 2 + sum(isinstance(child, Directory) for child in node.entries.values())
    return names[node]


def check_inode(node, inode, content, names):
    metadata = node.metadata
    assert inode.mode == kind_and_permissions(node)
    assert (inode.uid, inode.gid, inode.mtime_ns) == (metadata.uid, metadata.gid, metadata.mtime_ns)
    assert inode.links == link_count(node, names)
    assert inode.xattrs == metadata.xattrs
    if isinstance(node, Blob):
        assert content == node.content


def check_extracted(node, path):
    found, metadata = os.lstat(path), node.metadata
    lost = {Directory: 0, Symlink: 0o7777}.get(type(node), stat.S_ISUID | stat.S_ISGID)
    assert found.st_mode | lost == kind_and_permissions(node) | lost
    assert (found.st_uid, found.st_gid, found.st_mtime_ns) == (metadata.uid, metadata.gid, metadata.mtime_ns)
    match node:
        case Blob(content):
            assert Path(os.fsdecode(path)).read_bytes() == content
        case Symlink(target):
            assert os.readlink(path) == target
        case Directory(entries):
            assert set(os.listdir(path)) == set(entries)
        case Special(kind) if kind in (stat.S_IFCHR, stat.S_IFBLK):
            assert found.st_rdev == os.makedev(node.major, node.minor)


def check(path, root):
    """The image holds the tree: fsck.erofs accepts it and extracts it, and the Reader sees every inode."""
    reader, names = Reader(path), Counter(node for _, node in paths(root))
    nids: dict[object, int] = {}
    found = dict(reader.walk())
    assert found.keys() == dict(paths(root)).keys()
    for name, node in paths(root):
        check_inode(node, found[name], reader.content(found[name]), names)
        assert nids.setdefault(node, found[name].nid) == found[name].nid
    assert len(set(nids.values())) == len(nids) == reader.inodes
    assert reader.blocks * BLOCK == path.stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        target = os.fsencode(folder) + b"/tree"
        result = fsck(path, f"--extract={os.fsdecode(target)}")
        assert (result.returncode, result.stderr) == (0, b"")
        for name, node in paths(root):
            check_extracted(node, target + name)


owners = st.integers(0, 2**32 - 2)
filenames = (
    st.binary(min_size=1, max_size=255)
    .map(lambda name: name.translate(bytes.maketrans(b"\0/", b"\1\xff")))
    .filter(lambda name: name not in (b".", b".."))
)
xattr_names = st.one_of(
    st.sampled_from([XATTR_PREFIXES[2], XATTR_PREFIXES[3]]),
    st.builds(
        bytes.__add__,
        st.sampled_from([XATTR_PREFIXES[1], XATTR_PREFIXES[4], XATTR_PREFIXES[6]]),
        filenames.map(lambda name: name[:246]),
    ),
)
metadatas = st.builds(
    Metadata,
    permissions=st.integers(0, 0o7777),
    uid=owners,
    gid=owners,
    mtime_ns=st.integers(-(2 * 10**18), 8 * 10**18),  # what ext4 can hold, to be extracted
    xattrs=st.dictionaries(xattr_names, st.binary(max_size=300), max_size=3),
)
targets = st.binary(min_size=1, max_size=4095).map(lambda target: target.replace(b"\0", b"\1"))
blobs = st.builds(Blob, st.binary(max_size=100) | st.integers(0, 9000).map(lambda size: b"ab" * size), metadatas)
devices = st.builds(
    Special,
    st.sampled_from([stat.S_IFCHR, stat.S_IFBLK]),
    metadatas,
    st.integers(0, 4095),
    st.integers(0, 2**20 - 1),
)
others = st.builds(Special, st.sampled_from([stat.S_IFIFO, stat.S_IFSOCK]), metadatas)
leaves = st.one_of(blobs, st.builds(Symlink, targets, metadatas), devices, others)


@st.composite
def trees(draw):
    """A tree of up to four levels in which some nodes may have several names."""
    nodes = leaves | st.sampled_from(draw(st.lists(leaves, min_size=1, max_size=3)))
    below = nodes
    for _ in range(3):
        below = nodes | st.builds(Directory, st.dictionaries(filenames, below, max_size=5), metadatas)
    return draw(st.builds(Directory, st.dictionaries(filenames, below, max_size=8), metadatas))
