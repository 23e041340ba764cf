"""What the EROFS writer promises, checked with erofs-utils and with a reader of the disk format.

fsck.erofs 1.5 brings back type, content, target, owner, permissions, device number and time to the
nanosecond; for the rest there is erofs_reader.
"""

import io
import itertools
import os
import stat
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import attrs
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from aegis_sdk.images.erofs import BATCH, BLOCK, ErofsWriter
from aegis_sdk.images.holes import HOLE
from aegis_sdk.images.tree import Extent, File, Metadata, Special
from tests.sdk.erofs_reader import XATTR_PREFIXES, Reader
from tests.sdk.erofs_trees import PLAIN, blob, check, directory, fsck, link, trees, write

ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in [(1, 7, 2**32 - 1), (2, 5, 1000), (4, 5, 2**32 - 1), (16, 7, 2**32 - 1), (32, 4, 2**32 - 1)]
)


@pytest.fixture
def image():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "image.erofs"


def dump(path, name):
    done = subprocess.run(["dump.erofs", f"--path={name}", path], check=True, capture_output=True, text=True)
    return done.stdout


def roundtrip(path, entries, metadata=PLAIN):
    root = directory(entries, metadata)
    write(path, root)
    check(path, root)


# Shrinking such trees takes longer than a test may, and would end it without the reason.
@settings(max_examples=50, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(trees())
def test_any_tree_comes_back(root):
    """Whatever tree is written, the tools find each inode of it with all that it had."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "image.erofs")
        write(image, root)
        check(image, root)


@pytest.mark.parametrize("before", [0, 1, BLOCK - 1, BLOCK, BATCH - 1, BATCH, BATCH + 5])
@pytest.mark.parametrize("after", [b"", b"x"])
def test_holes_are_zeros(before, after):
    """Holes between data are zeros of their size, wherever they begin, as if they had been written."""
    told, written = io.BytesIO(), io.BytesIO()
    chunks = [b"y" * before, HOLE, HOLE, after, HOLE, after]
    extents = ErofsWriter(told).add(chunks), ErofsWriter(written).add(bytearray(chunk) for chunk in chunks)
    assert extents[0] == extents[1]
    assert told.getvalue() == written.getvalue()


def test_holes_cost_nothing():
    """A hole of many gibibytes takes no time to write."""
    writer, begin = ErofsWriter(io.BytesIO()), time.monotonic()
    assert writer.add(itertools.chain([b"x"], itertools.repeat(HOLE, 60_000))).size == 60_000 * len(HOLE) + 1
    assert time.monotonic() - begin < 5


def test_the_reader_agrees_with_mkfs(image):
    """The Reader, which the other tests believe, sees in an image of mkfs.erofs what the kernel shows."""
    source = image.parent / "source"
    (source / "sub").mkdir(parents=True)
    for number in range(400):
        (source / "sub" / f"file{number:03}").write_bytes(b"." * number * 41)
    (source / "sub" / "linked").hardlink_to(source / "sub" / "file001")
    for name, value in [("user.a", b"1"), ("trusted.b", b""), ("security.c", b"\0\1" * 900)]:
        os.setxattr(source / "sub" / "file002", name, value)
    for name in ("system.posix_acl_access", "system.posix_acl_default"):
        os.setxattr(source / "sub", name, ACL)
    options = ["-x1000", "-Eforce-inode-extended"]
    subprocess.run(["mkfs.erofs", *options, image, source], check=True, capture_output=True)
    reader = Reader(image)
    for name, inode in reader.walk():
        path = os.fsencode(source) + name
        found = os.lstat(path)
        assert (inode.mode, inode.links, inode.mtime_ns) == (found.st_mode, found.st_nlink, found.st_mtime_ns)
        assert inode.xattrs == {os.fsencode(key): os.getxattr(path, key) for key in os.listxattr(path)}
        assert stat.S_ISDIR(inode.mode) or reader.content(inode) == Path(os.fsdecode(path)).read_bytes()


def test_same_tree_same_bytes(image):
    """Two writers given the same tree give the same bytes, in whatever order its names came."""
    first = blob(b"content", Metadata(xattrs={b"user.b": b"2", b"user.a": b"1"}))
    same = attrs.evolve(first, metadata=Metadata(xattrs={b"user.a": b"1", b"user.b": b"2"}))
    write(image, directory({b"a": first, b"b": link(b"a"), b"c": directory({})}))
    written = image.read_bytes()
    write(image, directory({b"c": directory({}), b"b": link(b"a"), b"a": same}))
    assert image.read_bytes() == written


def test_empty_root(image):
    """A tree without any entry is a file system."""
    roundtrip(image, {}, Metadata(permissions=0o1777, uid=1, mtime_ns=-1))


def test_sizes_around_blocks(image):
    """Files and link targets of sizes around a block's come back whole."""
    sizes = [0, 1, 4095, 4096, 4097, 8192, BATCH - 1, BATCH, BATCH + 1]
    links = [1, 4031, 4032, 4033, 4094, 4095]
    files = {b"file%d" % size: blob(b"x" * size) for size in sizes}
    roundtrip(image, files | {b"link%d" % size: link(b"x" * size) for size in links})


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([b"\0", b"x"]), st.sampled_from([1, 17, 4095, 4096, 4097, 70_000]))))
def test_chunks_do_not_matter(runs):
    """A file is its bytes in as many blocks as they need, however they are cut, with zeros or without."""
    chunks = [byte * length for byte, length in runs]
    out = io.BytesIO()
    writer = ErofsWriter(out)
    extents = [writer.add(map(memoryview, chunks)), writer.add([b"".join(chunks)]), writer.add([b"end"])]
    writer.finish(directory({}))
    for extent, content in zip(extents, [b"".join(chunks)] * 2 + [b"end"], strict=True):
        assert out.getvalue()[extent.block * BLOCK :][: extent.size].ljust(extent.size) == content
    assert extents[2].block == 1 + 2 * -(-len(b"".join(chunks)) // BLOCK)


def test_sparse_file_over_four_gibibytes(image):
    """A huge file of zeros takes next to no space, and all its bytes are where they belong."""
    hole = bytes(16 * 2**20)
    with image.open("wb") as out:
        writer = ErofsWriter(out)
        extent = writer.add([b"first", *[hole] * 272, b"last"])
        writer.finish(directory({b"huge": File(extent, PLAIN)}))
    assert extent.size == 9 + 272 * len(hole) > 2**32
    assert image.stat().st_blocks * 512 < 2**20
    assert fsck(image).returncode == 0
    assert f"Size: {extent.size} " in dump(image, "/huge")
    assert Reader(image).bytes(extent.block * BLOCK + extent.size - 8, 12) == b"\0\0\0\0last\0\0\0\0"


class Torn(io.FileIO):
    """A disk that takes so many writes and no more."""

    writes = 0

    def write(self, data):
        if not self.writes:
            raise OSError("the disk is gone")
        self.writes -= 1
        return super().write(data)


def test_torn_image_is_no_file_system(image):
    """Until finish() has returned, at whatever write it ended, nobody takes the file for a file system."""
    for writes in range(100):
        image.write_bytes(b"")
        with Torn(image, "r+") as out:
            out.writes = writes
            try:
                writer = ErofsWriter(out)
                extent = writer.add([b"content" * 1000])
                writer.finish(directory({b"%0255d" % i: File(extent, PLAIN) for i in range(50)}))
            except OSError:
                assert fsck(image).returncode != 0
            else:
                assert fsck(image).returncode == 0
                assert writes > 3
                return


def test_hard_links_are_one_inode(image):
    """The same object under several names is one inode that counts its names."""
    one, way = blob(b"one"), link(b"target")
    roundtrip(image, {b"a": one, b"b": directory({b"c": one, b"l": way}), b"d": one, b"m": way})
    seen = [line for name in ("/a", "/b/c", "/d") for line in dump(image, name).splitlines() if "NID" in line]
    assert len(set(seen)) == 1
    assert "Links: 3 " in seen[0]


def test_all_kinds_of_xattrs(image):
    """Every name space of extended attributes comes back, up to the biggest value, on every kind of inode."""
    small = {b"user.a": b"", b"trusted.b": b"\0", b"security.capability": b"c" * 20, XATTR_PREFIXES[2]: ACL}
    big = {b"user." + bytes([c]) * 250: b"v" * 65_535 for c in b"abc"} | {b"user.rest": b"w" * 64_000}
    roundtrip(
        image,
        {
            b"small": blob(b"x", Metadata(xattrs=small)),
            b"big": blob(b"x", Metadata(xattrs=big)),
            b"link": link(b"t" * 3000, Metadata(xattrs={b"security.s": b"s" * 2000})),
            b"device": Special(stat.S_IFCHR, Metadata(xattrs=small), 1, 3),
            b"directory": directory({b"x" * 250: blob(b"")}, Metadata(xattrs={XATTR_PREFIXES[3]: ACL} | big)),
        },
    )


def test_image_that_ends_in_zeros(image):
    """Blocks of zeros at the very end are part of the image, too."""
    roundtrip(image, {b"zeros": blob(b"", Metadata(xattrs={b"user.zeros": bytes(5 * BLOCK)}))})


def test_times_of_all_ages(image):
    """Times keep their nanoseconds, before 1970 too, as far as 64 bits of seconds go."""
    times = [-(2**63) * 10**9, -1, 0, 1, 10**9 - 1, 2**63 * 10**9 - 1]
    write(image, directory({b"%d" % time: blob(b"", Metadata(mtime_ns=time)) for time in times}))
    assert {inode.mtime_ns for name, inode in Reader(image).walk() if name} == set(times)


def test_names_of_any_bytes(image):
    """Every byte that a name may hold is kept, and names stand in the order of the kernel's search."""
    alone = [bytes([byte]) for byte in range(1, 256) if byte not in b"./"]
    tricky = [
        b"-",
        b".a",
        b"..a",
        b"...",
        b"\n\t ",
        b"\xff" * 255,
        b"caf\xc3\xa9",
        b"caf\xe9",
        b"a" * 254,
        b"a" * 255,
    ]
    roundtrip(image, {name: link(name) for name in alone + tricky})


@pytest.mark.parametrize("last", [28, 29, 30])
def test_directory_that_just_fills_a_block(image, last):
    """A directory whose entries end before, at or after a block's end comes back; 29 is exact."""
    entries = {b"%0200d" % number: blob(b"") for number in range(19)} | {b"z" * last: blob(b"")}
    roundtrip(image, {b"full": directory(entries)})
    assert f"Size: {[4095, 4096, 4138][last - 28]} " in dump(image, "/full")


def test_hundred_thousand_names(image):
    """A directory may have very many entries."""
    one = blob(b"x")
    names = [b"file-%06d" % number for number in range(100_000)]
    write(image, directory({b"many": directory(dict.fromkeys(names, one))}))
    assert fsck(image).returncode == 0
    reader = Reader(image)
    ((_, _), (_, many), *_) = reader.walk()
    assert [name for name, _, _ in reader.entries(many)] == [b".", b"..", *names]
    assert "Links: 100000 " in dump(image, "/many/file-099999")


def test_deep_tree(image):
    """Ten thousand levels are no problem."""
    root = directory({})
    for _ in range(10_000):
        root = directory({b"d": root})
    write(image, root)
    assert fsck(image).returncode == 0
    reader = Reader(image)
    inode, depth = reader.inode(reader.root), 0
    while deeper := {name: nid for name, nid, _ in reader.entries(inode)}.get(b"d"):
        inode, depth = reader.inode(deeper), depth + 1
    assert depth == 10_000


BAD_NODES = {
    "the name is empty": directory({b"": link(b"x")}),
    "the name is a dot": directory({b".": link(b"x")}),
    "the name is two dots": directory({b"..": link(b"x")}),
    "the name has a slash": directory({b"a/b": link(b"x")}),
    "the name has a NUL": directory({b"a\0": link(b"x")}),
    "the name is too long": directory({b"a" * 256: link(b"x")}),
    "the target is empty": link(b""),
    "the target is too long": link(b"x" * 4096),
    "the target has a NUL": link(b"a\0b"),
    "the extent is not of this image": File(Extent(block=1, size=BLOCK + 1), PLAIN),
    "the extent is the superblock": File(Extent(block=0, size=1), PLAIN),
    "the extent has less than nothing": File(Extent(block=1, size=-1), PLAIN),
    "the kind is a file's": Special(stat.S_IFREG, PLAIN),
    "the major number has 13 bits": Special(stat.S_IFCHR, PLAIN, 4096, 0),
    "the minor number has 21 bits": Special(stat.S_IFCHR, PLAIN, 0, 2**20),
    "the permissions hold a kind": link(b"x", Metadata(permissions=0o100644)),
    "the user is nobody at all": link(b"x", Metadata(uid=2**32 - 1)),
    "the group is negative": link(b"x", Metadata(gid=-1)),
    "the time is too late": link(b"x", Metadata(mtime_ns=2**63 * 10**9)),
    "the xattr has no known prefix": link(b"x", Metadata(xattrs={b"lustre.a": b""})),
    "the xattr is a prefix only": link(b"x", Metadata(xattrs={b"user.": b""})),
    "the xattr's name is too long": link(b"x", Metadata(xattrs={b"user." + b"a" * 251: b""})),
    "the xattr's name has a NUL": link(b"x", Metadata(xattrs={b"user.a\0": b""})),
    "the xattr's value is too big": link(b"x", Metadata(xattrs={b"user.a": bytes(65_536)})),
    "the xattrs are too many": link(b"x", Metadata(xattrs={b"user.%d" % n: bytes(65_500) for n in range(5)})),
}


@pytest.mark.parametrize("node", BAD_NODES.values(), ids=BAD_NODES.keys())
def test_what_linux_could_not_read_is_refused(node):
    """What the format or Linux cannot hold is refused with the path that it has, and no image comes out."""
    out = io.BytesIO()
    writer = ErofsWriter(out)
    writer.add([b"x"])
    with pytest.raises(ValueError, match=r"^'/directory/bad\\udcff': "):
        writer.finish(directory({b"directory": directory({b"bad\xff": node})}))
    assert not any(out.getvalue()[:BLOCK])


def test_directory_has_one_place():
    """A directory in two places, be it in itself, is refused: only other things can be hard links."""
    inner = directory({})
    with pytest.raises(ValueError, match="'/b': the directory is already in another place"):
        ErofsWriter(io.BytesIO()).finish(directory({b"a": inner, b"b": inner}))
    inner.entries[b"loop"] = inner
    with pytest.raises(ValueError, match="'/a/loop': "):
        ErofsWriter(io.BytesIO()).finish(directory({b"a": inner}))


def test_failed_content_leaves_no_trace(image):
    """After chunks that broke off, the writer goes on, and nothing of them shows in later files."""

    def broken():
        yield b"dirt" * BATCH
        raise ConnectionError("the registry went away")

    with image.open("wb") as out:
        writer = ErofsWriter(out)
        with pytest.raises(ConnectionError):
            writer.add(broken())
        extent = writer.add([bytes(8 * BATCH)])
        writer.finish(directory({b"zeros": File(extent, PLAIN)}))
    assert not any(Reader(image).bytes(extent.block * BLOCK, extent.size))
    assert fsck(image).returncode == 0


def test_discarded_file_is_zeros(image):
    """What was discarded reads as zeros, in a file or in memory, and all else is as it was."""
    images = []
    for out in (io.BytesIO(), image.open("w+b")):
        with out:
            writer = ErofsWriter(out)
            extents = [writer.add([b"%d" % number * size]) for number, size in enumerate([5000, 0, 70_000, 9])]
            writer.discard(extents[3])
            writer.discard(extents[0])
            writer.discard(extents[1])
            writer.finish(directory({b"left": File(extents[2], PLAIN)}))
            out.seek(0)
            images.append(out.read())
    assert images[0] == images[1]
    for number, extent in enumerate(extents):
        content = b"" if number == 1 else b"2" * 70_000 if number == 2 else bytes(extent.size)
        assert images[0][extent.block * BLOCK :][: extent.size] == content
    assert fsck(image).returncode == 0


def test_only_what_is_there_can_be_discarded():
    """What this image does not hold, or holds for good, cannot be discarded."""
    writer = ErofsWriter(io.BytesIO())
    extent = writer.add([b"x"])
    with pytest.raises(ValueError, match="not added to this image"):
        writer.discard(Extent(block=extent.block, size=BLOCK + 1))
    writer.finish(directory({}))
    with pytest.raises(ValueError, match="finished"):
        writer.discard(extent)


def test_finished_image_is_closed(image):
    """What is finished takes no more, and what is not empty is never overwritten."""
    with image.open("wb") as out:
        writer = ErofsWriter(out)
        writer.finish(directory({}))
        with pytest.raises(ValueError, match="finished"):
            writer.add([b"late"])
        with pytest.raises(ValueError, match="empty"):
            ErofsWriter(out)
    assert fsck(image).returncode == 0
