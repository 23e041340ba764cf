"""What layers amount to: checked against a plain model, against what tools of others make of them, and case by case."""

import io
import stat

import pytest
from hypothesis import given, settings

from aegis_sdk.errors import ImageInvalid
from aegis_sdk.images.base import Entry, Kind
from aegis_sdk.images.erofs import BLOCK, ErofsWriter
from aegis_sdk.images.layers.merge import Merge
from aegis_sdk.images.tree import Directory, File, Special, Symlink
from tests.sdk.layer_entries import apply, folder, hard, kept, link, merged, put
from tests.sdk.layer_model import IMPLICIT, Inode, Model, Path, Refused, stacks

KINDS = {stat.S_IFCHR: Kind.CHARACTER_DEVICE, stat.S_IFBLK: Kind.BLOCK_DEVICE, stat.S_IFIFO: Kind.FIFO}


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
