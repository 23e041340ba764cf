"""What is read out of the tars of layers, and what is refused."""

import hashlib
import io
import subprocess
import tarfile
import tracemalloc

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_sdk.errors import ImageFailed, ImageInvalid
from aegis_sdk.images.base import Kind
from aegis_sdk.images.holes import HOLE
from aegis_sdk.images.layers.tar import BOMB_RATIO, BOMB_SIZE, TarLayer
from aegis_sdk.images.layers.tar_headers import EXTENSION_MAX
from tests.sdk.tars import END, GNU, folder, hardlink, layer, member, number, padded, pax, read, record, symlink


def only(*members, **options):
    """The only entry of a layer, with its content."""
    ((entry, content),) = read(layer(*members, **options))
    return entry, content


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_digest_covers_every_byte(algorithm):
    """The DiffID is that of the whole tar, what follows its end included, and is checked."""
    data = member(b"file") + END + b"what nobody reads"
    right = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    assert only(member(b"file"), end=END + b"what nobody reads", digest=right)
    for wrong in (data[:-1], data[: -len(b"what nobody reads")]):
        digest = f"{algorithm}:{hashlib.new(algorithm, wrong).hexdigest()}"
        with pytest.raises(ImageInvalid, match="not what its digest"):
            read(layer(member(b"file"), end=END + b"what nobody reads", digest=digest))


def test_bad_digest_is_refused():
    """A digest that is none is refused before a byte is read."""
    with pytest.raises(ImageInvalid, match="is no digest"):
        read(layer(member(b"file"), digest="sha256:../../x"))


def test_a_last_entry_without_its_padding():
    """A tar may end right after the last file's bytes, as umoci writes it; not before."""
    whole = member(b"file", data=b"x" * 700)
    assert read(layer(whole[:-324], end=b""))[0][1] == b"x" * 700
    with pytest.raises(ImageInvalid, match="in the middle of an entry"):
        read(layer(whole[:-325], end=b""))


def test_fetch_tells_its_size():
    """A layer that is here says so; one that is not is fetched first."""
    said: list[int] = []
    layer(member(b"a"), end=b"").fetch(said.append)
    attrs.evolve(layer(member(b"a"), end=b""), fetch=lambda report: report(7)).fetch(said.append)
    assert said == [512, 7, 512]


def test_stream_is_closed():
    """The stream of a layer is closed after it was read, and when its reader stops early."""
    opened = []
    found = layer(member(b"a"), member(b"b"))

    def opener():
        opened.append(found.open())
        return opened[-1]

    watched = TarLayer(digest=found.digest, size=0, open=opener)
    read(watched)
    early = watched.entries()
    next(early)
    del early
    assert [stream.closed for stream in opened] == [True, True]


def test_unreadable_layer():
    """What the system says of a layer's file is passed on as the image's failure."""

    class Gone(io.BytesIO):
        def read(self, _size=-1):
            raise OSError("the disk is gone")

    def missing():
        raise FileNotFoundError("no such file")

    for opener in (Gone, missing):
        with pytest.raises(ImageFailed, match=r"gone|no such file"):
            read(TarLayer(digest="sha256:" + "0" * 64, size=1, open=opener))


def test_every_kind_of_entry():
    """Each kind of entry comes with what tar can say of it."""
    entries = [
        entry
        for entry, _ in read(
            layer(
                member(b"file", data=b"1"),
                member(b"old", b"\0", data=b"2"),
                member(b"old directory/", b"\0"),
                member(b"new file/", b"0", data=b"3"),
                member(b"contiguous", b"7", data=b"3"),
                folder(b"folder/", owner=(1, 2), mode=0o41777),
                symlink(b"link", b"../target"),
                hardlink(b"hard", b"file", size=700),
                member(b"null", b"3", dev=(1, 3)),
                member(b"disk", b"4", dev=(8, 300)),
                member(b"pipe", b"6"),
            )
        )
    ]
    assert [entry.kind for entry in entries] == [
        Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.FILE, Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.HARDLINK,
        Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE, Kind.FIFO,
    ]  # fmt: skip
    told = entries[5].metadata
    assert (told.permissions, told.uid, told.gid) == (0o1777, 1, 2)
    assert [entries[n].target for n in (6, 7)] == [b"../target", b"file"]
    assert [entries[n].device for n in (8, 9)] == [(1, 3), (8, 300)]


@pytest.mark.parametrize("kind", [b"V", b"M", b"D", b"Z", b"s", b"\xff"])
def test_unknown_kind_is_refused_by_name(kind):
    """An entry of a type that images do not have is refused, with its name."""
    with pytest.raises(ImageInvalid, match="'strange' is of a type"):
        read(layer(member(b"strange", kind)))


def test_long_names():
    """Names beyond 100 bytes come whole from ustar's prefix, from GNU's and from pax headers."""
    name, target = b"n" * 3000, b"t" * 3000
    assert only(member(b"name", prefix=b"a/b"))[0].path == b"a/b/name"
    assert only(member(b"name", magic=GNU, prefix=b"12345670123"))[0].path == b"name"
    gnu = member(b"././@LongLink", b"L", name + b"\0"), member(b"././@LongLink", b"K", target + b"\0")
    for headers in (gnu, [pax((b"path", name), (b"linkpath", target))]):
        entry, _ = only(*headers, symlink(b"short", b"short"))
        assert (entry.path, entry.target) == (name, target)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [(b"1.000000001", 10**9 + 1), (b"-1.5", -(10**9) * 3 // 2), (b"12", 12 * 10**9), (b"0.9999999999", 10**9 - 1)],
)
def test_times_to_the_nanosecond(text, nanoseconds):
    """A pax header's time is kept to the nanosecond, before 1970, too."""
    assert only(pax((b"mtime", text)), member(b"file", mtime=5))[0].metadata.mtime_ns == nanoseconds


def test_numbers_beyond_octal():
    """Owners, times and sizes that need more than octal digits are read."""
    told = only(member(b"file", owner=(3_000_000_000, 2**21), mtime=-2))[0].metadata
    assert (told.uid, told.gid, told.mtime_ns) == (3_000_000_000, 2**21, -2 * 10**9)
    told = only(pax((b"uid", b"3000000000"), (b"gid", b"7")), member(b"file"))[0].metadata
    assert (told.uid, told.gid) == (3_000_000_000, 7)


def test_size_of_pax_headers():
    """A size in a pax header is the one that counts."""
    entry, content = only(pax((b"size", b"3")), member(b"file", data=b"abc", size=0))
    assert (entry.size, content) == (3, b"abc")


def test_binary_xattrs():
    """Extended attributes are bytes: NUL, newlines and what is no UTF-8 come back as they are."""
    value = bytes(range(256)) * 2
    entry, _ = only(
        pax((b"SCHILY.xattr.security.capability", value), (b"SCHILY.xattr.user.empty", b"")), member(b"file")
    )
    assert entry.metadata.xattrs == {b"security.capability": value, b"user.empty": b""}


def test_global_headers():
    """Times and owners in global pax headers hold for all that follows, unless an entry's own say otherwise."""
    entries = read(
        layer(
            pax((b"mtime", b"7"), (b"comment", b"c"), kind=b"g"),
            member(b"a"),
            pax((b"mtime", b"8")),
            member(b"b"),
            pax((b"mtime", b"")),
            member(b"c", mtime=9),
        )
    )
    assert [entry.metadata.mtime_ns // 10**9 for entry, _ in entries] == [7, 8, 9]


def test_global_headers_hold_no_names():
    """What makes no sense for all entries at once is left out, and what would cost each of them much is refused."""
    entry, _ = only(pax((b"path", b"x"), (b"size", b"9"), (b"SCHILY.xattr.user.a", b"1"), kind=b"g"), member(b"a"))
    assert (entry.path, entry.size, entry.metadata.xattrs) == (b"a", 0, {})
    with pytest.raises(ImageInvalid, match="a number of 500000 digits"):
        read(layer(pax((b"mtime", b"1" * 500_000), kind=b"g"), member(b"a")))


def gnu_sparse(folder_, *options):
    path = folder_ / "sparse"
    with path.open("wb") as out:
        for number_ in range(30):
            out.seek(number_ * 100_000)
            out.write(b"%05d" % number_ * 1000)
        out.truncate(4_000_000)
    command = ["tar", "-C", folder_, "-S", *options, "-cf", "-", "sparse"]
    return path.read_bytes(), subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize(
    "options",
    [["--format=gnu"], *(["--format=posix", f"--sparse-version={version}"] for version in ("0.0", "0.1", "1.0"))],
    ids=["old", "0.0", "0.1", "1.0"],
)
def test_sparse_files(tmp_path, options):
    """Sparse files of GNU tar, in each of its formats, are what they were, holes being zeros."""
    content, data = gnu_sparse(tmp_path, *options)
    assert len(data) < len(content) // 4, "this file system has no holes to find"
    entry, read_content = only(data, end=b"")
    assert (entry.path, entry.size, len(read_content)) == (b"sparse", len(content), len(content))
    assert read_content == content


BROKEN = {
    "checksum": lambda: member(b"file")[:100] + b"1" + member(b"file")[101:],
    "no tar at all": lambda: b"<!DOCTYPE html>".ljust(512),
    "short header": lambda: member(b"file")[:300],
    "negative size": lambda: member(b"file", size=-1),
    "size beyond the end": lambda: member(b"file", size=10_000),
    "huge size": lambda: member(b"file", size=2**80),
    "digits": lambda: member(b"file", patch={124: b"0000000009\0\0"}),
    "mode": lambda: member(b"file", patch={100: b"rwxr-xr\0"}),
    "negative pax size": lambda: pax((b"size", b"-512")) + member(b"file"),
    "pax size of words": lambda: pax((b"size", b"many")) + member(b"file"),
    "pax owner of words": lambda: pax((b"uid", b"root")) + member(b"file"),
    "pax time of words": lambda: pax((b"mtime", b"now")) + member(b"file"),
    "pax record too long": lambda: member(b"pax", b"x", b"99 a=b\n") + member(b"file"),
    "pax record too short": lambda: member(b"pax", b"x", b"3 a=b\n") + member(b"file"),
    "pax record of length 0": lambda: member(b"pax", b"x", b"0 a=b\n") + member(b"file"),
    "pax record without newline": lambda: member(b"pax", b"x", b"6 a=bc") + member(b"file"),
    "pax of digits only": lambda: member(b"pax", b"x", b"1" * 200_000) + member(b"file"),
    "pax before the end": lambda: pax((b"path", b"file")),
    "lone zeros": lambda: member(b"a") + bytes(512) + member(b"b"),
    "sparse parts overlap": lambda: (
        pax((b"GNU.sparse.map", b"5,5,0,5"), (b"GNU.sparse.size", b"20")) + member(b"f", data=b"x" * 10)
    ),
    "sparse parts too long": lambda: (
        pax((b"GNU.sparse.map", b"0,20"), (b"GNU.sparse.size", b"20")) + member(b"f", data=b"x" * 10)
    ),
    "sparse parts beyond the size": lambda: (
        pax((b"GNU.sparse.map", b"15,10"), (b"GNU.sparse.size", b"20")) + member(b"f", data=b"x" * 10)
    ),
    "sparse map of an odd number": lambda: (
        pax((b"GNU.sparse.map", b"0,5,7"), (b"GNU.sparse.size", b"9")) + member(b"f", data=b"x" * 5)
    ),
    "sparse size negative": lambda: pax((b"GNU.sparse.map", b""), (b"GNU.sparse.size", b"-9")) + member(b"f"),
    "sparse map longer than its file": lambda: (
        pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9")) + member(b"f", data=b"500\n" * 100)
    ),
    "global header cut": lambda: pax((b"comment", b"c"), kind=b"g")[:-100],
    "old sparse map cut": lambda: member(b"f", b"S", magic=GNU, patch={386: bytes(96), 482: b"\1"}),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_broken_tars_are_refused(data):
    """A tar that is broken or lies is refused, and never taken for one that has ended."""
    with pytest.raises(ImageInvalid):
        read(layer(data(), end=b""))


HEADER_BOMBS = {
    "long name": lambda: member(b"L", b"L", b"n" * (EXTENSION_MAX + 1)),
    "pax": lambda: pax((b"SCHILY.xattr.user.x", b"v" * EXTENSION_MAX)),
    "many small ones": lambda: pax((b"path", b"x")) * (EXTENSION_MAX // 512),
    "a claimed terabyte": lambda: member(b"L", b"L", size=2**40),
    "old sparse map": lambda: (
        member(b"f", b"S", magic=GNU, patch={386: number(0, 12) + number(0, 12), 482: b"\1", 483: number(1, 12)})
        + (number(0, 12) * 42 + b"\1" + bytes(7)) * (EXTENSION_MAX // 512 + 1)
    ),
}


@pytest.mark.parametrize("data", HEADER_BOMBS.values(), ids=HEADER_BOMBS.keys())
def test_header_bombs_are_refused(data):
    """Headers that never end are refused after a mebibyte, with as little memory."""
    bomb = layer(data(), member(b"file"))
    tracemalloc.start()
    try:
        with pytest.raises(ImageInvalid, match="more than 1 MiB"):
            read(bomb)
        assert tracemalloc.get_traced_memory()[1] < 16 * EXTENSION_MAX
    finally:
        tracemalloc.stop()


def test_sparse_bomb_is_refused():
    """A file that claims terabytes of holes is refused before any of them is read."""
    size = b"%d" % (5 << 40)
    for headers in (
        [pax((b"GNU.sparse.map", b"0,1"), (b"GNU.sparse.size", size)), member(b"f", data=b"x")],
        [
            pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", size)),
            member(b"f", data=padded(b"1\n0\n1\n") + b"x"),
        ],
        [member(b"f", b"S", b"x", magic=GNU, patch={386: number(0, 12) + number(1, 12), 483: number(5 << 40, 12)})],
    ):
        with pytest.raises(ImageInvalid, match="decompression bomb"):
            read(layer(*headers))


def test_much_of_nothing_is_no_bomb():
    """A layer of no more than a gibibyte may be as dense as it likes."""
    size = b"%d" % (BOMB_SIZE - (1 << 20))
    found = layer(pax((b"GNU.sparse.map", b"0,1"), (b"GNU.sparse.size", size)), member(b"f", data=b"x"))
    assert BOMB_RATIO * found.size < BOMB_SIZE
    assert [entry.size for entry in found.entries()] == [int(size)]


def test_holes_come_as_such():
    """The holes of a sparse file cost neither memory nor a look at them: they are one and the same piece of zeros."""
    size = 3 * len(HOLE) + 5
    sparse = pax((b"GNU.sparse.map", b"%d,1" % (size - 1)), (b"GNU.sparse.size", b"%d" % size))
    entries = layer(sparse, member(b"f", data=b"x")).entries()
    chunks = list(next(entries).content)
    assert sum(chunk is HOLE for chunk in chunks) == 3
    assert b"".join(chunks) == b"x".rjust(size, b"\0")


def test_content_that_nobody_takes_is_skipped():
    """A reader may leave a file's content, or the rest of it, where it is."""
    taken = []
    for entry in layer(*(member(b"%d" % n, data=b"%d" % n * 700_000) for n in range(4))).entries():
        content = iter(entry.content)
        taken.append(next(content)[:1] if entry.path in (b"1", b"2") else b"")
    assert taken == [b"", b"1", b"2", b""]


def sample():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("a", "b" * 120, "c"):
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.pax_headers = 700, 1.5, {"SCHILY.xattr.user.x": "v"}
            tar.addfile(info, io.BytesIO(b"x" * 700))
    sparse = pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"9"))
    return (
        member(b"f", b"S", b"x", magic=GNU, patch={386: number(0, 12) + number(1, 12), 483: number(9, 12)})
        + sparse
        + member(b"g", data=padded(b"1\n3\n4\n") + b"data")
        + member(b"L", b"L", b"long name\0")
        + out.getvalue()
    )


SAMPLE = sample()


bites = st.tuples(st.integers(0, len(SAMPLE) // 512 - 1), st.integers(0, 511), st.binary(min_size=1, max_size=12))


def mutated(changes, *, seal):
    data = bytearray(SAMPLE)
    for block, at, new in changes:
        start = block * 512 + at
        data[start : start + len(new)] = new
        if seal:
            header = bytes(data[block * 512 : block * 512 + 512])
            total = sum(header[:148]) + 256 + sum(header[156:])
            data[block * 512 + 148 : block * 512 + 156] = b"%06o\0 " % total
    return bytes(data)


@settings(max_examples=400, deadline=None)
@given(st.lists(bites, min_size=1, max_size=4), st.booleans(), st.integers(0, len(SAMPLE)))
def test_any_bytes_give_entries_or_a_clear_error(changes, seal, cut):
    """Whatever is wrong with a tar, its checksums right or not, it is refused as invalid or read, and nothing else."""
    for data in (mutated(changes, seal=seal), SAMPLE[:cut]):
        try:
            for entry, content in read(layer(data, end=b"")):
                assert len(content) == entry.size
        except ImageInvalid:
            pass


def test_records_may_have_any_length():
    """The length of a record counts its own digits."""
    assert [len(record(b"k", b"v" * size)) for size in (0, 3, 4, 92, 93)] == [5, 8, 9, 98, 99]
