"""Disks made of layers: what is on them, as other tools see the same layers; and how making them ends."""

import errno
import gzip
import hashlib
import io
import os
import stat
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from aegis_sdk.errors import ImageFailed, ImageInvalid
from aegis_sdk.images.disks import name_of
from aegis_sdk.images.layers import disk
from aegis_sdk.images.layers.tar import TarLayer
from tests.sdk.erofs_reader import Reader
from tests.sdk.erofs_trees import fsck
from tests.sdk.tars import END, folder, hardlink, layer, member, padded, pax, silent, symlink, written

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.fixture
def image(tmp_path):
    """Makes a disk in a file and gives a reader of it."""

    def image(*layers, progress=silent):
        path = tmp_path / "disk.erofs"
        with path.open("w+b") as out:
            disk.write(out, layers, progress)
        done = fsck(path)
        assert (done.returncode, done.stderr) == (0, b"")
        return Reader(path)

    return image


def paths(reader):
    return {path for path, _ in reader.walk()}


def test_no_layers(image):
    """An image without a layer is a disk with an empty root, and nothing else."""
    assert paths(image()) == {b""}


def test_same_layers_same_bytes():
    """Layers give the same disk byte for byte, however they were compressed, in memory or in a file."""
    members = [[member(b"a/b", data=os.urandom(9000)), symlink(b"l", b"a")], [member(b"l/b"), member(b"c", data=b"c")]]
    disks = {
        written(*(layer(*content, compress=compress) for content in members))
        for compress in (bytes, gzip.compress, zstd.compress)
    }
    assert len(disks) == 1


def test_name():
    """A disk's name is 64 hex digits made of its layers and their order."""
    one, two = layer(member(b"a")), layer(member(b"b"))
    keys = [name_of(layers) for layers in ([], [one], [one, two], [two, one])]
    assert len(set(keys)) == 4
    assert all(len(key) == 64 and int(key, 16) for key in keys)
    assert name_of([layer(member(b"a"), compress=gzip.compress)]) == keys[1]


def test_deep_tree(image):
    """Two thousand levels of directories are no trouble."""
    reader = image(layer(pax((b"path", b"d/" * 2000 + b"f")), member(b"f", data=b"deep")))
    assert max(path.count(b"/") for path in paths(reader)) == 2001


def test_dead_files_take_no_space(tmp_path):
    """What upper layers replace or remove takes no space, and reads as zeros; a name that is left keeps its file."""
    content = os.urandom(8 << 20)
    layers = [
        layer(member(b"gone", data=content), member(b"replaced", data=content), member(b"kept", data=content)),
        layer(hardlink(b"still", b"kept"), member(b"replaced", data=b"new"), member(b".wh.kept"), member(b".wh.gone")),
    ]
    path = tmp_path / "disk.erofs"
    with path.open("w+b") as out:
        disk.write(out, layers, silent)
    assert path.stat().st_blocks * 512 < len(content) * 1.2
    assert path.read_bytes() == written(*layers)
    reader = Reader(path)
    found = dict(reader.walk())
    assert set(found) == {b"", b"/replaced", b"/still"}
    assert reader.content(found[b"/still"]) == content
    assert path.read_bytes().count(content) == 1


BAD = {
    "layer 2 of 2: .* not what its digest": layer(member(b"a"), digest="sha256:" + "0" * 64),
    "layer 2 of 2: 'a' is a hard link to 'b'": layer(hardlink(b"a", b"b")),
    "what no disk can: '/a': the device number": layer(member(b"a", b"3", dev=(5000, 1))),
    "what no disk can: '/a': the owner": layer(member(b"a", owner=(2**32 - 1, 0))),
    "layer 2 of 2: 'a': extended attribute .* over 65535": layer(
        pax((b"SCHILY.xattr.user.a", b"v" * 70_000)), member(b"a")
    ),
    "what no disk can: '/x*': the name": layer(pax((b"linkpath", b"x" * 300)), symlink(b"a", b""), member(b"a/b")),
    "what no disk can: '/a': the time": layer(pax((b"mtime", b"9" * 20)), member(b"a")),
}


@pytest.mark.parametrize(("words", "bad"), BAD.items(), ids=BAD.keys())
def test_invalid_images(words, bad):
    """What is wrong with an image is said with the layer, or the path, that it is wrong in."""
    out = io.BytesIO()
    with pytest.raises(ImageInvalid, match=words):
        disk.write(out, [layer(member(b"first")), bad], silent)
    assert not any(out.getvalue()[:4096])


class Full(io.FileIO):
    """A file on a disk that is full after a few writes."""

    writes = 3

    def write(self, data):
        self.writes -= 1
        if self.writes < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


def test_full_disk(tmp_path):
    """A disk that fills up is said in words, with what to do; and the file that is left is empty."""
    path = tmp_path / "disk.erofs"
    files = [member(b"%d" % number, data=os.urandom(3 << 20)) for number in range(4)]
    with Full(path, "w+") as raw, pytest.raises(ImageFailed, match="no space left") as caught:
        disk.write(raw, [layer(*files)], silent)
    assert "aegis image prune" in caught.value.hint
    assert path.stat().st_size == 0


def test_unwritable_disk(tmp_path):
    """Whatever else the system says when the disk is written is passed on as the image's failure."""

    class Broken(io.FileIO):
        def write(self, _data):
            raise OSError(errno.EIO, "Input/output error")

    with Broken(tmp_path / "disk", "w+") as raw, pytest.raises(ImageFailed, match="Input/output error"):
        disk.write(raw, [layer(member(b"a", data=b"x"))], silent)


def test_full_disk_can_be_closed(tmp_path):
    """After the disk was full, closing the file does not fail once more for what is in its buffer."""

    class Tight(io.FileIO):
        def write(self, data):
            if os.fstat(self.fileno()).st_blocks * 512 + len(data) > 1 << 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    raw = Tight(tmp_path / "disk", "w+")
    with pytest.raises(ImageFailed, match="no space left"), io.BufferedRandom(raw) as out:
        disk.write(out, [layer(*(member(b"%d" % n, data=os.urandom(5000)) for n in range(300)))], silent)


def space(monkeypatch, *free):
    """Lets the file system seem to have that many bytes free, at each look."""
    looks = iter(free)

    def fstatvfs(_fd):
        return os.statvfs_result((1, 1, 0, 0, next(looks), 0, 0, 0, 0, 255))

    monkeypatch.setattr(os, "fstatvfs", fstatvfs)


def test_too_little_space_is_seen_before(tmp_path, monkeypatch):
    """An image that cannot fit is refused before anything is fetched."""
    big = attrs.evolve(layer(member(b"a")), size=5 << 30, fetch=lambda _report: pytest.fail("it was fetched"))
    space(monkeypatch, 5 << 30)
    words = r"too little space .* 5120 MiB are free, and 5184 MiB are needed"
    with (tmp_path / "disk").open("w+b") as out, pytest.raises(ImageFailed, match=words) as caught:
        disk.write(out, [big], silent)
    assert caught.value.hint


def test_space_that_goes_away_is_seen(tmp_path, monkeypatch):
    """Space that others, or the image, take while the disk is written ends it before nothing is left."""
    space(monkeypatch, 5 << 30, 200 << 20, 60 << 20)
    sparse = [pax((b"GNU.sparse.map", b"0,1"), (b"GNU.sparse.size", b"%d" % (900 << 20))), member(b"a", data=b"x")]
    with (tmp_path / "disk").open("w+b") as out, pytest.raises(ImageFailed, match="60 MiB are free"):
        disk.write(out, [layer(*sparse)], silent)


def capability():
    return (0x02000001).to_bytes(4, "little") + (1 << 10).to_bytes(4, "little") + bytes(12)


SPARSE = padded(b"3\n8192\n512\n100352\n4\n200000\n0\n") + b"x" * 512 + b"last"


LOWER = (
    folder(b"./", mode=0o750, mtime=1_600_000_000),
    folder(b"./etc/", owner=(0, 42), mode=0o2755, mtime=1_600_000_001),
    member(b"./etc/shadow", data=b"root:*\n", mode=0o600, owner=(0, 42), mtime=1_600_000_002),
    pax((b"mtime", b"1600000003.123456789")),
    member(b"./etc/exact"),
    folder(b"./usr/", mtime=1_600_000_004),
    folder(b"./usr/bin/", mtime=1_600_000_004),
    member(b"./usr/bin/su", data=b"\x7fELF" * 3000, mode=0o4755, mtime=5),
    pax((b"SCHILY.xattr.security.capability", capability()), (b"SCHILY.xattr.user.note", b"\0\xff=\n")),
    member(b"./usr/bin/ping", data=b"ping", mode=0o755, owner=(1000, 2_000_000), mtime=6),
    hardlink(b"./usr/bin/ping4", b"./usr/bin/ping", mode=0o755, owner=(1000, 2_000_000), mtime=6),
    hardlink(b"./etc/ping", b"usr/bin/ping4", mode=0o755, owner=(1000, 2_000_000), mtime=6),
    symlink(b"./bin", b"usr/bin", owner=(3, 4), mtime=7),
    symlink(b"./usr/up", b"../../..//etc", mtime=8),
    folder(b"./tmp/", mode=0o1777, mtime=9),
    folder(b"./dev/", mtime=10),
    member(b"./dev/null", b"3", mode=0o666, dev=(1, 3), mtime=10),
    member(b"./dev/loop300", b"4", mode=0o660, owner=(0, 6), dev=(7, 300), mtime=10),
    member(b"./dev/initctl", b"6", mode=0o600, mtime=10),
    pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"./usr/sparse"),
        (b"GNU.sparse.realsize", b"200000")),
    member(b"./usr/GNUSparseFile.0/sparse", data=SPARSE, mtime=11),
    pax((b"path", b"./usr/" + b"long" * 50 + b"/"), kind=b"x"),
    folder(b"long", mtime=12),
    member(b"././@LongLink", b"L", b"./usr/" + b"long" * 50 + b"/" + b"name" * 40 + b"\0"),
    member(b"short", data=b"of a long name", mtime=13),
    member("./usr/n\N{LATIN SMALL LETTER A WITH DIAERESIS}me".encode(), mtime=14),
    member(b"./usr/not \xff utf-8", mtime=15),
    pax((b"SCHILY.xattr.user.d", b"dir"), (b"SCHILY.xattr.trusted.t", b"")),
    folder(b"./opt/", mode=0o700, mtime=16),
    member(b"./opt/empty", mtime=17),
)  # fmt: skip


ABOVE = (
    folder(b"etc/", owner=(0, 0), mode=0o755, mtime=20),
    member(b"etc/shadow", data=b"new and longer", mode=0o640, mtime=21),
    hardlink(b"etc/exactly", b"etc/exact", mtime=0),
    symlink(b"etc/mtab", b"/proc/self/mounts", mtime=25),
    folder(b"usr/", mtime=22),
    folder(b"usr/bin/", mtime=22),
    member(b"usr/bin/ping4", data=b"its own", mode=0o755, mtime=23),
    member(b"usr/up", data=b"no link any more", mtime=24),
)


HIDING = (
    pax((b"mtime", b"-1.25")),
    member(b"etc/ancient", data=b"old"),
    folder(b"etc/", mtime=30),
    member(b"etc/.wh.shadow"),
    folder(b"opt/", mtime=31),
    member(b"opt/.wh..wh..opq"),
    member(b"opt/new", data=b"new", mtime=31),
    folder(b"usr/", mtime=32),
    member(b"usr/.wh." + b"long" * 12),
    member(b"usr/.wh.sparse"),
    member(b"usr/bin", data=b"a file in place of a directory", mtime=32),
    member(b".wh.dev"),
    folder(b"etc/", mtime=33, mode=0o700),
)


def unpacked_by_tar(folder_, layers):
    root = folder_ / "root"
    root.mkdir()
    for one in layers:
        options = ["--xattrs", "--xattrs-include=*", "--same-owner", "--numeric-owner", "-pP"]
        command = ["tar", "-C", root, *options, "-xf", "-"]
        done = subprocess.run(command, input=one.open().read(), check=False, capture_output=True)
        assert done.returncode == 0, done.stderr
    return root


def unpacked_by_umoci(folder_, layers):
    layout, root = folder_ / "layout", folder_ / "root"
    run = lambda *command: subprocess.run(["umoci", *command], check=True, capture_output=True)  # noqa: E731
    run("init", "--layout", layout)
    run("new", "--image", f"{layout}:x")
    for number, one in enumerate(layers):
        (folder_ / f"{number}.tar").write_bytes(one.open().read())
        run("raw", "add-layer", "--image", f"{layout}:x", folder_ / f"{number}.tar")
    run("raw", "unpack", "--image", f"{layout}:x", root)
    return root


def inode_of(path):
    """What the system says of a file; sizes and link counts of directories are the file system's own."""
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    content = os.fsencode(os.readlink(path)) if kind == stat.S_IFLNK else b""
    if kind == stat.S_IFREG:
        content = Path(os.fsdecode(path)).read_bytes()
    xattrs = {
        os.fsencode(name): os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
    }
    links = found.st_nlink if kind != stat.S_IFDIR else None
    device = found.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else None
    return found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, links, device, xattrs, content


def inode_in(reader, inode):
    kind = stat.S_IFMT(inode.mode)
    content = reader.content(inode) if kind in (stat.S_IFREG, stat.S_IFLNK) else b""
    links = inode.links if kind != stat.S_IFDIR else None
    union = inode.block
    number = os.makedev(union >> 8 & 0xFFF, union & 0xFF | union >> 12 & ~0xFF)
    device = number if kind in (stat.S_IFCHR, stat.S_IFBLK) else None
    return inode.mode, inode.uid, inode.gid, inode.mtime_ns, links, device, inode.xattrs, content


def walked(root):
    """Every path below *root*, the root's being empty."""
    top = os.fsencode(root)
    todo = [b""]
    for path in todo:
        yield path
        if stat.S_ISDIR(os.lstat(top + path).st_mode):
            todo += [path + b"/" + name for name in os.listdir(top + path)]


TOOLS = {
    "tar": (unpacked_by_tar, [LOWER, ABOVE]),
    "umoci": (unpacked_by_umoci, [LOWER, ABOVE, HIDING]),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only the machine's own root makes devices and gives files away")
@pytest.mark.parametrize(("unpack", "stack"), TOOLS.values(), ids=TOOLS.keys())
def test_every_inode_is_as_others_unpack_it(image, tmp_path, unpack, stack):
    """Type, mode, owner, content, target, attributes, links, device and time of each inode are as a tool's."""
    layers = [layer(*members) for members in stack]
    reader, top = image(*layers), unpack(tmp_path, layers)
    found = {path: inode_in(reader, inode) for path, inode in reader.walk()}
    expected = {path: inode_of(os.fsencode(top) + path) for path in walked(top)}
    assert found == expected
    assert len(found) > 15


def test_extracted_as_anybody(image, tmp_path):
    """Without root, too: names, contents and permissions of the files are as tar unpacks them."""
    plain = [folder(b"a/"), member(b"a/x", data=b"x" * 9000, mode=0o640), symlink(b"l", b"a"), hardlink(b"h", b"a/x")]
    over = [member(b"a/x", data=b"new", mode=0o600), member(b"a/y")]
    reader = image(layer(*plain), layer(*over))
    root = tmp_path / "root"
    root.mkdir()
    for members in (plain, over):
        subprocess.run(["tar", "-C", root, "--no-same-owner", "-xpf", "-"], input=b"".join(members) + END, check=True)
    for path, inode in reader.walk():
        about = os.lstat(os.fsencode(root) + path)
        assert path == b"" or inode.mode == about.st_mode
        if stat.S_ISREG(inode.mode):
            assert reader.content(inode) == Path(os.fsdecode(os.fsencode(root) + path)).read_bytes()
    assert paths(reader) == set(walked(root))


def test_digest_of_every_layer_is_checked():
    """A layer whose first and last entries are right, and one byte in between is not, is refused."""
    data = member(b"a", data=b"x" * 100_000) + END
    changed = data.replace(b"x" * 1000, b"x" * 999 + b"y", 1)
    one = TarLayer(
        digest=f"sha256:{hashlib.sha256(data).hexdigest()}", size=len(data), open=lambda: io.BytesIO(changed)
    )
    with pytest.raises(ImageInvalid, match="not what its digest"):
        written(one)
