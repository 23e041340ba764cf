"""What layers amount to: checked against a plain model, against what tools of others make of them, and case by case."""

import io
import stat
import struct
import tracemalloc

import pytest
from hypothesis import given, settings

from aegis_sdk.errors import ImageInvalid
from aegis_sdk.images.base import Entry, Kind
from aegis_sdk.images.erofs import BLOCK, XATTRS_MAX, ErofsWriter
from aegis_sdk.images.layers import merge as merging
from aegis_sdk.images.layers import paths as looking_up
from aegis_sdk.images.layers.merge import Merge
from aegis_sdk.images.tree import Directory, File, Metadata, Node, Special, Symlink
from tests.sdk.layer_model import IMPLICIT, Inode, Model, Path, Refused, stacks

KINDS = {stat.S_IFCHR: Kind.CHARACTER_DEVICE, stat.S_IFBLK: Kind.BLOCK_DEVICE, stat.S_IFIFO: Kind.FIFO}


def new():
    return Merge(ErofsWriter(io.BytesIO()).add)


def apply(merge, layers):
    for layer in layers:
        merge.apply(layer)


def kept(merge):
    """Every path of a tree with what it stands for, as the model has it, and the object that is the inode."""
    found: dict[Path, Node] = {}
    todo: list[tuple[Path, Node]] = [((), merge.root)]
    for path, node in todo:
        found[path] = node
        if isinstance(node, Directory):
            todo += [((*path, name), child) for name, child in node.entries.items()]
    return found


def told(node, image):
    match node:
        case File(extent):
            start = extent.block * BLOCK
            return Kind.FILE, about(node), image[start : start + extent.size].ljust(extent.size, b"\0"), b"", (0, 0)
        case Directory():
            return Kind.DIRECTORY, about(node), b"", b"", (0, 0)
        case Symlink(target):
            return Kind.SYMLINK, about(node), b"", target, (0, 0)
        case Special(kind, _, major, minor):
            return KINDS[kind], about(node), b"", b"", (major, minor)


def about(node):
    return node.metadata.permissions, node.metadata.uid, node.metadata.gid, node.metadata.mtime_ns


def same_inodes(found):
    """The sets of paths that share an inode."""
    names: dict[int, set[Path]] = {}
    for path, inode in found.items():
        names.setdefault(id(inode), set()).add(path)
    return sorted(map(sorted, names.values()))


def modelled(layers):
    model = Model()
    try:
        for layer in layers:
            model.apply(layer)
    except Refused:
        return None
    return model.tree


@settings(max_examples=600, deadline=None)
@given(stacks)
def test_any_layers_agree_with_the_model(layers):
    """Whatever layers say, the tree is the model's, inode for inode, or both refuse them."""
    out = io.BytesIO()
    merge = Merge(ErofsWriter(out).add)
    expected = modelled(layers)
    if expected is None:
        with pytest.raises(ImageInvalid):
            apply(merge, layers)
        return
    apply(merge, layers)
    found, image = kept(merge), out.getvalue()
    assert {path: told(node, image) for path, node in found.items()} == {
        path: (inode.kind, inode.about, inode.content, inode.target, inode.device) for path, inode in expected.items()
    }
    assert same_inodes(found) == same_inodes(expected)


def put(path, kind=Kind.FILE, content=b"", **rest):
    metadata = Metadata(**{key: rest.pop(key) for key in list(rest) if key in ("permissions", "uid", "xattrs")})
    return Entry(path=path, kind=kind, content=(content,), size=len(content), metadata=metadata, **rest)


def folder(path, **rest):
    return put(path, Kind.DIRECTORY, **rest)


def link(path, target):
    return put(path, Kind.SYMLINK, target=target)


def hard(path, target):
    return put(path, Kind.HARDLINK, target=target)


def merged(*layers):
    merge = new()
    apply(merge, layers)
    return merge


def listed(*layers):
    """The paths of the tree, directories with a slash."""
    found = kept(merged(*layers))
    return {b"/".join(path).decode() + "/" * isinstance(node, Directory) for path, node in found.items() if path}


CASES = {
    "a symlink to a place outside is followed inside": (
        [[link(b"escape", b"/tmp"), put(b"escape/pwned")]],
        {"escape", "tmp/", "tmp/pwned"},
    ),
    "... by a later layer, too": (
        [[link(b"escape", b"../../../tmp")], [put(b"escape/pwned")]],
        {"escape", "tmp/", "tmp/pwned"},
    ),
    "a name below what a lower layer links to": ([[folder(b"usr/bin"), link(b"bin", b"usr/bin")], [put(b"bin/sh")]],
        {"usr/", "usr/bin/", "usr/bin/sh", "bin"}),
    "a way that changes on the way": ([[link(b"l", b"a"), put(b"l/x"), link(b"l", b"b"), put(b"l/y")]],
        {"a/", "a/x", "b/", "b/y", "l"}),
    "a directory that becomes a way elsewhere": ([[put(b"d/x"), link(b"d", b"e"), put(b"d/y")]], {"d", "e/", "e/y"}),
    "nothing is written through a symlink": ([[put(b"target"), link(b"link", b"target")], [put(b"link")]],
        {"target", "link"}),
    "a directory replaces a symlink to one": ([[put(b"a/x"), link(b"b", b"a")], [folder(b"b"), put(b"b/y")]],
        {"a/", "a/x", "b/", "b/y"}),
    "a file replaces a directory": ([[put(b"a/b/c")], [put(b"a")]], {"a"}),
    "a directory replaces a file": ([[put(b"a")], [folder(b"a")]], {"a/"}),
    "a whiteout": ([[put(b"a/b"), put(b"a/c")], [put(b"a/.wh.b")]], {"a/", "a/c"}),
    "a whiteout of a directory": ([[put(b"a/b/c"), put(b"d")], [put(b".wh.a")]], {"d"}),
    "a whiteout of nothing": ([[put(b"a")], [put(b".wh.b")]], {"a"}),
    "whiteouts in what is no directory": ([[put(b"a")], [put(b"a/.wh.b"), put(b"c/.wh.b"), put(b"d/.wh..wh..opq")]],
        {"a"}),
    "a whiteout leaves what its own layer has": ([[put(b"a/old")], [put(b"a/new"), put(b".wh.a")]], {"a/", "a/new"}),
    "... in whatever order": ([[put(b"a/old")], [put(b".wh.a"), put(b"a/new")]], {"a/", "a/new"}),
    "a whiteout through a symlink": ([[put(b"a/x"), link(b"b", b"a")], [put(b"b/.wh.x")]], {"a/", "b"}),
    "a whiteout through a symlink to outside": ([[put(b"x"), link(b"up", b"../..")], [put(b"up/.wh.x")]], {"up"}),
    "a whiteout of a symlink": ([[put(b"a/x"), link(b"b", b"a")], [put(b".wh.b")]], {"a/", "a/x"}),
    "an opaque directory": ([[put(b"a/b/c"), put(b"a/d")], [put(b"a/.wh..wh..opq"), put(b"a/e")]], {"a/", "a/e"}),
    "... that comes last": ([[put(b"a/b/c"), put(b"a/d")], [put(b"a/b/e"), put(b"a/.wh..wh..opq")]],
        {"a/", "a/b/", "a/b/e"}),
    "an opaque directory through a symlink": ([[put(b"a/x"), link(b"b", b"a")], [put(b"b/.wh..wh..opq")]], {"a/", "b"}),
    "an opaque root": ([[put(b"a/x"), put(b"b")], [put(b".wh..wh..opq"), put(b"c")]], {"c"}),
    "what aufs left": ([[put(b".wh..wh.aufs"), put(b".wh..wh.plnk/1"), put(b".wh..wh.x/.wh..wh..opq"), put(b"a")]],
        {"a"}),
    "a parent in the same layer stays, though empty": (
        [[put(b"a/o")], [put(b"a/n"), put(b".wh.a"), put(b"a/n", Kind.CHARACTER_DEVICE), put(b".wh.a")]], {"a/"}),
    "an overlay's whiteout": ([[put(b"a/x")], [put(b"a", Kind.CHARACTER_DEVICE)]], set()),
    "an overlay's whiteout of nothing": ([[put(b"a", Kind.CHARACTER_DEVICE)]], set()),
    "slashes and dots": ([[folder(b"./"), put(b"/a"), put(b"./b//c/."), folder(b"d/")]], {"a", "b/", "b/c", "d/"}),
    "a loop that nothing goes through": ([[link(b"a", b"b"), link(b"b", b"a")]], {"a", "b"}),
    "a parent that was a file": ([[put(b"a")], [put(b"a/b")]], {"a/", "a/b"}),
    "a dangling parent": ([[link(b"a", b"b/c")], [put(b"a/d")]], {"a", "b/", "b/c/", "b/c/d"}),
    "a way through what is not there": ([[link(b"a", b"no/../b")], [put(b"a/d")]], {"a", "b/", "b/d"}),
    "hard links": ([[put(b"a/b"), hard(b"c", b"/a/b")], [hard(b"d", b"c"), put(b".wh.c")]], {"a/", "a/b", "d"}),
    "a hard link to itself": ([[put(b"a")], [hard(b"a", b"a")]], {"a"}),
    "a hard link through a symlink": ([[put(b"a/b"), link(b"l", b"../a")], [hard(b"c", b"l/b")]],
        {"a/", "a/b", "l", "c"}),
    "a hard link to a symlink": ([[link(b"l", b"/etc/passwd"), hard(b"m", b"l")]], {"l", "m"}),
}  # fmt: skip


@pytest.mark.parametrize(("layers", "expected"), CASES.values(), ids=CASES.keys())
def test_rules(layers, expected):
    """Each rule of layers, in its smallest form."""
    assert listed(*layers) == expected


REFUSED = {
    "a name that goes up": ([put(b"a/../../b")], r"'a/\.\./\.\./b': .* go up"),
    "two dots": ([put(b"..")], "go up"),
    "no name": ([put(b"")], "1 to 4096 bytes"),
    "NUL in a name": ([put(b"a\0b")], "no NUL"),
    "a long name": ([put(b"n" * 256)], "longer than 255"),
    "a long path": ([put(b"n/" * 2049)], "1 to 4096 bytes"),
    "a root that is a file": ([put(b"./")], "root of an image must be a directory, not a regular file"),
    "a root that is a symlink": ([link(b"/", b"/etc")], "not a symbolic link"),
    "a whiteout of no name": ([put(b"a/.wh.")], "whiteout of nothing"),
    "a whiteout of a dot": ([put(b"a/.wh..")], "whiteout of nothing"),
    "a whiteout of two dots": ([put(b"a/.wh...")], "whiteout of nothing"),
    "a directory called as a whiteout": ([put(b".wh.a/b")], "begin with .wh."),
    "a loop": ([link(b"a", b"b"), link(b"b", b"a"), put(b"a/c")], "too many symbolic links"),
    "a loop of one": ([link(b"a", b"a"), put(b".wh.b"), put(b"a/c")], "too many symbolic links"),
    "a growing loop": ([link(b"a", b"a/" * 2000), put(b"a/c")], "too many symbolic links"),
    "a hard link to nothing": ([hard(b"a", b"b")], "'a' is a hard link to 'b', which is not there"),
    "a hard link into nothing": ([hard(b"a", b"b/c")], "which is not there"),
    "a hard link to a directory": ([folder(b"b"), hard(b"a", b"b")], "which is a directory"),
    "a hard link to the root": ([hard(b"a", b"/")], "which is a directory"),
    "a hard link that goes up": ([hard(b"a", b"../../etc/passwd")], "go up"),
    "a hard link outside by a symlink": ([link(b"l", b"/etc"), hard(b"a", b"l/passwd")], "which is not there"),
    "a symlink to no name": ([link(b"a", b"")], "target has 1 to 4095"),
    "a symlink too long": ([link(b"a", b"x" * 4096)], "target has 1 to 4095"),
    "a symlink with NUL": ([link(b"a", b"x\0y")], "target has 1 to 4095"),
}


@pytest.mark.parametrize(("layer", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(layer, words):
    """What no image may say is refused in words that name it."""
    with pytest.raises(ImageInvalid, match=words):
        merged(layer)


def test_directories_keep_and_change_what_they_are():
    """A directory named again takes the new metadata and keeps its files; as a mere parent it keeps all."""
    found = kept(merged([folder(b"a", uid=1), put(b"a/x"), folder(b"b", uid=2)], [folder(b"a", uid=3), put(b"b/y")]))
    assert [found[path].metadata.uid for path in ((b"a",), (b"b",))] == [3, 2]
    assert (b"a", b"x") in found


def test_hidden_directory_is_as_new():
    """A directory that is hidden and yet a parent in the same layer has nothing from lower layers, in either order."""
    for layer in ([put(b"a/n"), put(b".wh.a")], [put(b".wh.a"), put(b"a/n")]):
        found = kept(merged([folder(b"a", uid=5, permissions=0o700), put(b"a/o")], layer))
        assert about(found[b"a",]) == IMPLICIT
        assert set(found) == {(), (b"a",), (b"a", b"n")}


def test_xattrs_that_no_disk_should_hold():
    """What is an overlay's own or has no place in EROFS is left out; the rest is kept."""
    good = {b"user.a": b"1", b"security.capability": b"2", b"trusted.x": b"3"}
    bad = {b"trusted.overlay.opaque": b"y", b"lustre.lov": b"", b"user.": b"", b"nothing": b"", b"system.other": b""}
    found = kept(merged([put(b"a", xattrs=good | bad), folder(b"b", xattrs=bad)]))
    assert found[b"a",].metadata.xattrs == good
    assert found[b"b",].metadata.xattrs == {}


OWNER, GROUP, OTHERS, MASK = (1, 7, 2**32 - 1), (4, 5, 2**32 - 1), (32, 4, 2**32 - 1), (16, 7, 2**32 - 1)
USER = (2, 5, 1000)


def acl(*entries, version=2):
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


GOOD_ACLS = [
    acl(OWNER, GROUP, OTHERS),
    acl(OWNER, GROUP, MASK, OTHERS),
    acl(OWNER, USER, USER, GROUP, (8, 1, 5), MASK, OTHERS),
]
BAD_ACLS = {
    "nothing": b"",
    "half a header": b"\2\0",
    "no entries": acl(),
    "another version": acl(OWNER, GROUP, OTHERS, version=1),
    "half an entry": acl(OWNER, GROUP, OTHERS)[:-4],
    "no others": acl(OWNER, GROUP),
    "no mask": acl(OWNER, USER, GROUP, OTHERS),
    "disorder": acl(GROUP, OWNER, OTHERS),
    "an unknown tag": acl(OWNER, GROUP, OTHERS, (64, 7, 0)),
    "a large tag": acl((257, 7, 0), GROUP, OTHERS),
    "rights that are none": acl((1, 8, 0), GROUP, OTHERS),
    "nobody": acl(OWNER, (2, 5, 2**32 - 1), GROUP, MASK, OTHERS),
}


@pytest.mark.parametrize("name", [b"system.posix_acl_access", b"system.posix_acl_default"])
def test_acls(name):
    """An access control list that Linux can read is kept; one that would make its file unusable is left out."""
    for path in (b"a", b"/"):
        for value in GOOD_ACLS:
            assert kept(merged([folder(path, xattrs={name: value})])).popitem()[1].metadata.xattrs == {name: value}
        for why, value in BAD_ACLS.items():
            assert kept(merged([folder(path, xattrs={name: value})])).popitem()[1].metadata.xattrs == {}, why


def test_too_many_attributes_of_one_file():
    """A file with more attributes than a disk can hold is refused by its name, before anything that comes after it."""

    def layer():
        yield put(b"much", xattrs={b"user.%d" % n: b"x" * 60_000 for n in range(XATTRS_MAX // 60_000 + 1)})
        raise AssertionError("it went on")

    with pytest.raises(ImageInvalid, match="'much': the extended attributes take more than"):
        new().apply(layer())


def test_dead_files():
    """A file is dead when its last name has gone, by whatever way; and not before."""
    layers = [
        [put(b"replaced", content=b"1"), put(b"d/x", content=b"2"), put(b"linked", content=b"3")],
        [hard(b"l2", b"linked")],
        [put(b"replaced", content=b"4"), put(b".wh.d"), put(b"linked", content=b"5"), put(b"gone", content=b"6")],
        [put(b"gone", Kind.CHARACTER_DEVICE), put(b"empty")],
        [put(b".wh.empty")],
    ]  # fmt: skip
    sizes = [merged(*layers[:count]) for count in range(1, 6)]
    assert [len(list(merge.dead())) for merge in sizes] == [0, 0, 2, 3, 3]
    assert len(list(merged(*layers, [put(b".wh.l2")]).dead())) == 4


def test_content_may_differ_from_its_size():
    """Whatever size a layer claims, what it gives is what counts."""
    found = kept(merged([Entry(path=b"a", kind=Kind.FILE, content=(b"abc",), size=1)]))
    assert found[b"a",].content.size == 3


def many(count, path):
    same = Metadata()
    return (Entry(path=path % number, kind=Kind.FIFO, metadata=same) for number in range(count))


def test_too_many_entries():
    """Half a million entries are the most that an image may have, whiteouts among them."""
    merge = new()
    merge._entries = 400_000  # it would take the better part of a test's time to come so far
    with pytest.raises(ImageInvalid, match="more than 500,000 files and directories"):
        merge.apply(many(100_001, b".wh.%d"))


def test_entries_of_all_layers_count(monkeypatch):
    """The limit is that of the image, and one more than it is too many."""
    monkeypatch.setattr(merging, "MAX_ENTRIES", 1000)
    merge = merged(many(500, b"a%d"), many(500, b"a%d"))
    with pytest.raises(ImageInvalid, match="more than 1,000 files"):
        merge.apply(many(1, b"a%d"))


def test_too_many_parents(monkeypatch):
    """Directories that are only named as parents count, too."""
    monkeypatch.setattr(merging, "MAX_ENTRIES", 10_000)
    with pytest.raises(ImageInvalid, match="more than 10,000 files and directories"):
        new().apply(put(b"%d" % number + b"/d" * 2000, Kind.FIFO) for number in range(1000))


def test_too_much_to_hold(monkeypatch):
    """Attributes and targets cannot fill the memory."""
    monkeypatch.setattr(merging, "MAX_HELD", 16 << 20)
    for give in (
        lambda n: put(b"%d" % n, Kind.FIFO, xattrs={b"user.a": (b"%d" % n).ljust(60_000)}),
        lambda n: put(b"%d" % n, Kind.FIFO, xattrs={b"user.%d" % m: b"" for m in range(500)}),
        lambda n: link(b"%d" % n, (b"%d" % n).ljust(4095, b"x")),
    ):
        tracemalloc.start()
        try:
            with pytest.raises(ImageInvalid, match="more than 16 MiB"):
                new().apply(map(give, range(100_000)))
            assert tracemalloc.get_traced_memory()[1] < 2 * merging.MAX_HELD
        finally:
            tracemalloc.stop()


def test_too_large_files():
    """What files claim to hold is bounded before any of it is read, and what they really hold as well."""

    def never():
        raise AssertionError("it was read")
        yield b""

    with pytest.raises(ImageInvalid, match="more than 64 GiB"):
        new().apply([Entry(path=b"a", kind=Kind.FILE, content=never(), size=merging.MAX_SIZE + 1)])


def test_files_larger_than_they_say(monkeypatch):
    """A layer cannot hide from the limit what its files hold."""
    monkeypatch.setattr(merging, "MAX_SIZE", 1000)
    with pytest.raises(ImageInvalid, match="hold more than"):
        new().apply([Entry(path=b"a", kind=Kind.FILE, content=(bytes(1001),), size=1)])


def test_long_ways(monkeypatch):
    """Chains of symbolic links that make every path a long way are refused instead of followed for hours."""
    monkeypatch.setattr(looking_up, "STEPS_MAX", 100_000)

    def slow():
        yield link(b"l0", b"x/../" * 800 + b"y")
        for number in range(1, 200):
            yield link(b"l%d" % number, b"l%d" % (number - 1) + b"/x/.." * 600)
        for number in range(10_000):
            yield put(b"l199/%d/f" % number, Kind.FIFO)

    with pytest.raises(ImageInvalid, match="too long a way"):
        new().apply(slow())


def test_long_words_are_long_ways(monkeypatch):
    """Targets and paths of nothing but slashes and dots count by what it takes to read them."""
    monkeypatch.setattr(looking_up, "STEPS_MAX", 1_000_000)
    links = [link(b"l%d" % n, b"./" * 2040 + b"l%d" % (n + 1)) for n in range(100)]
    for layer in (
        [*links, *(put(b"l0/.wh.x") for _ in range(10))],
        [put(b"/./" * 1300 + b".wh.x") for _ in range(1000)],
        [put(b"a"), *(hard(b"b", b"./" * 2000 + b"a") for _ in range(1000))],
    ):
        with pytest.raises(ImageInvalid, match="too long a way"):
            new().apply(layer)


def test_what_is_remembered_of_long_paths():
    """Memory does not grow with the length of paths whose directories are there anyway."""
    merge, deep = new(), b"dd/" * 1300
    tracemalloc.start()
    try:
        merge.apply(put(deep + b"%d/x" % n, Kind.FIFO) for n in range(1000))
        assert tracemalloc.get_traced_memory()[0] < 12 << 20
    finally:
        tracemalloc.stop()


def test_many_whiteouts_are_quick():
    """Opaque directories over and over, each with much in it, take no more than their number."""

    def layer(number):
        for n in range(3000):
            yield put(b"d/%d-%d" % (number, n), Kind.FIFO)
            yield put(b"d/.wh..wh..opq")
            yield put(b".wh.d")

    merge = merged(*map(layer, range(5)))
    assert len(kept(merge)) == 3002


def test_deep_tree():
    """Thousands of levels, made through symbolic links, are merged, hidden and written without recursion."""
    layer = [link(b"l0", b"d/" * 1000)]
    layer += [link(b"l%d" % n, b"l%d/" % (n - 1) + b"d/" * 1000) for n in range(1, 5)]
    out = io.BytesIO()
    writer = ErofsWriter(out)
    merge = Merge(writer.add)
    merge.apply([*layer, put(b"l4/deep", content=b"x")])
    assert len(kept(merge)) == 5000 + 7
    assert list(merge.dead()) == []
    writer.finish(merge.root)
    merge.apply([put(b".wh.d")])
    assert len(list(merge.dead())) == 1


def test_model_knows_its_own_rules():
    """The model itself, on one example that can be followed by eye."""
    model = Model()
    model.apply([put(b"a/b", content=b"1"), link(b"l", b"/a")])
    model.apply([put(b"l/.wh.b"), put(b"l/c", content=b"2")])
    assert set(model.tree) == {(), (b"a",), (b"l",), (b"a", b"c")}
    assert isinstance(model.tree[b"a", b"c"], Inode)
    assert model.tree[b"a", b"c"].content == b"2"
