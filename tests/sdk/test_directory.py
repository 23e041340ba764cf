"""Directories as images: the whole tree, nothing but the tree, and not while it changes."""

import os
import socket
import stat
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aegis_sdk.errors import ImageFailed, ImageNotFound, InvalidValue
from aegis_sdk.images.base import Kind
from aegis_sdk.images.local.directory import DirectoryLayer, HostDirectory
from tests.conftest import ROOT
from tests.sdk.image_blobs import unprivileged

SOURCE = HostDirectory()


@pytest.fixture
def place(tmp_path):
    path = tmp_path / "tree"
    path.mkdir()
    return path


def found(path):
    image = SOURCE.find(f"dir:{path}", architecture="amd64")
    (layer,) = image.layers
    assert image.digest == layer.digest
    return layer


def read(layer):
    """What each name is, its bytes, and everything else of it."""
    return {entry.path: (entry, b"".join(entry.content)) for entry in layer.entries()}


def shape(path):
    return {name: (entry.kind, content or entry.target) for name, (entry, content) in read(found(path)).items()}


def test_reference(place, monkeypatch):
    """A reference becomes absolute; what is no directory is said so."""
    assert SOURCE.claims("dir:x")
    assert not SOURCE.claims("directory")
    monkeypatch.chdir(place.parent)
    (place.parent / "a:b").mkdir()
    assert SOURCE.canonical("dir:tree/.") == f"dir:{place}"
    assert SOURCE.canonical("dir:a:b") == f"dir:{place.parent}/a:b"
    image = SOURCE.find("dir:a:b", architecture="arm64")
    assert (image.reference, image.architecture) == (f"dir:{place.parent}/a:b", "arm64")
    assert (dict(image.config.env), image.config.cwd, image.config.command) == ({}, "", ())
    (place / "file").touch()
    for path in (place / "file", place / "gone"):
        with pytest.raises(ImageNotFound, match="there is no directory"):
            found(path)
    with pytest.raises(InvalidValue, match="names no path"):
        SOURCE.canonical("dir:")


def test_tree(place):
    """Files, directories, links and all they have come in the order of names, directories before what is in them."""
    (place / "b" / "empty").mkdir(parents=True)
    (place / "b" / "file").write_bytes(b"content" * 1_000_000)
    (place / "a").write_bytes(b"")
    (place / "c").symlink_to("/etc/passwd")
    (place / "d").symlink_to("b", target_is_directory=True)
    os.mkfifo(place / "fifo")
    (place / "b" / "file").chmod(0o4751)
    place.chmod(0o711)
    os.setxattr(place / "b" / "file", "user.name", b"\0value")
    os.utime(place / "b", ns=(0, -1_500_000_001))
    entries = read(found(place))
    names = [b".", b"a", b"b", b"c", b"d", b"fifo", b"b/empty", b"b/file"]
    assert list(entries) == names
    for name, (entry, content) in entries.items():
        path = os.path.join(os.fsencode(place), name)
        about = os.lstat(path)
        assert stat.S_IMODE(about.st_mode) == entry.metadata.permissions
        assert (about.st_uid, about.st_gid) == (entry.metadata.uid, entry.metadata.gid)
        assert about.st_mtime_ns == entry.metadata.mtime_ns
        if entry.kind is Kind.FILE:
            assert content == Path(os.fsdecode(path)).read_bytes()
            assert entry.size == len(content)
    assert entries[b"b/file"][0].metadata.xattrs == {b"user.name": b"\0value"}
    assert [entries[name][0].target for name in (b"c", b"d")] == [b"/etc/passwd", b"b"]
    assert [entries[name][0].kind for name in names[1:6]] == [
        Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.SYMLINK, Kind.FIFO
    ]  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0, reason="only the machine's own root makes devices and gives files away")
def test_what_root_can_make(place, monkeypatch):
    """Owners, devices, sockets and the attributes that only root sets are kept."""
    os.mknod(place / "null", 0o640 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(place / "disk", 0o640 | stat.S_IFBLK, os.makedev(259, 70_000))
    (place / "file").touch()
    (place / "link").symlink_to("gone")
    os.chown(place / "file", 1000, 2000)
    os.chown(place / "link", 3000, 4000, follow_symlinks=False)
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    os.setxattr(place / "file", "security.capability", capability)
    os.setxattr(place / "link", "trusted.link", b"1", follow_symlinks=False)
    monkeypatch.chdir(place)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    entries = {name: entry for name, (entry, _) in read(found(place)).items()}
    assert (entries[b"null"].kind, entries[b"null"].device) == (Kind.CHARACTER_DEVICE, (1, 3))
    assert (entries[b"disk"].kind, entries[b"disk"].device) == (Kind.BLOCK_DEVICE, (259, 70_000))
    assert entries[b"socket"].kind is Kind.SOCKET
    assert (entries[b"file"].metadata.uid, entries[b"file"].metadata.gid) == (1000, 2000)
    assert (entries[b"link"].metadata.uid, entries[b"link"].metadata.gid) == (3000, 4000)
    assert entries[b"file"].metadata.xattrs == {b"security.capability": capability}
    assert entries[b"link"].metadata.xattrs == {b"trusted.link": b"1"}


def test_hard_links(place):
    """Files that are one have their bytes once, and are one in the image, links and fifos too."""
    (place / "a").write_bytes(b"content")
    (place / "s").symlink_to("a")
    (place / "z").mkdir()
    for name in ("b", "z/c"):
        os.link(place / "a", place / name)
    os.link(place / "s", place / "z" / "s", follow_symlinks=False)
    assert shape(place) == {
        b".": (Kind.DIRECTORY, b""),
        b"a": (Kind.FILE, b"content"),
        b"b": (Kind.HARDLINK, b"a"),
        b"s": (Kind.SYMLINK, b"a"),
        b"z": (Kind.DIRECTORY, b""),
        b"z/c": (Kind.HARDLINK, b"a"),
        b"z/s": (Kind.HARDLINK, b"s"),
    }


@given(st.sets(st.binary(min_size=1, max_size=40).filter(lambda name: not name.startswith(b".wh."))))
@settings(deadline=None, max_examples=50)
def test_any_names(tmp_path_factory, names):
    """Every name that the system takes comes through as it is."""
    place = os.fsencode(tmp_path_factory.mktemp("names"))
    for name in names:
        if b"/" not in name and b"\0" not in name and name not in (b".", b".."):
            os.mkdir(os.path.join(place, name))
    assert set(read(found(os.fsdecode(place)))) == {b".", *os.listdir(place)}


def dig(place, depth):
    here = os.open(place, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_deep_tree(place):
    """A tree deeper than anything may recurse is walked; one whose paths no image can have is refused."""
    dig(place, 1500)
    assert len(read(found(place))) == 1501
    (place / "e").mkdir()
    dig(place / "e", 2100)
    with pytest.raises(ImageFailed, match="cannot be read: File name too long"):
        found(place)
    subprocess.run(["rm", "-rf", str(place)], check=True)


CHANGES = {
    "content": lambda place: (place / "file").write_bytes(b"CONTENT"),
    "permissions": lambda place: (place / "file").chmod(0o600),
    "attribute": lambda place: os.setxattr(place / "file", "user.a", b""),
    "time": lambda place: os.utime(place / "sub", (0, 0)),
    "new": lambda place: (place / "sub" / "new").touch(),
    "gone": lambda place: (place / "file").unlink(),
    "renamed": lambda place: (place / "file").rename(place / "other"),
    "linked": lambda place: os.link(place / "file", place / "other"),
    "itself": lambda place: place.chmod(0o700),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes(place, change):
    """The same tree has the same digest, any change another; what was found before can no longer be read."""
    (place / "sub").mkdir()
    (place / "file").write_bytes(b"content")
    before = found(place)
    assert found(place).digest == before.digest
    assert len(read(before)) == 3
    CHANGES[change](place)
    assert found(place).digest != before.digest
    with pytest.raises(ImageFailed, match="changed while it was read"):
        read(before)


@pytest.mark.parametrize("change", ["grown", "cut", "link", "fifo", "gone"])
def test_changes_between_look_and_read(place, change):
    """A file that becomes another between being looked at and being read is refused, and no link followed."""
    (place / "file").write_bytes(b"content")
    (place.parent / "secret").write_bytes(b"secret!")
    entries = found(place).entries()
    next(entries)
    entry = next(entries)
    if change in ("grown", "cut"):
        os.truncate(place / "file", 1 << 20 if change == "grown" else 1)
    else:
        (place / "file").unlink()
    if change == "link":
        (place / "file").symlink_to(place.parent / "secret")
    elif change == "fifo":
        os.mkfifo(place / "file")
    with pytest.raises(ImageFailed, match="file was changed while it was read"):
        list(entry.content)
    entries.close()


def test_a_directory_that_becomes_a_link(place):
    """Whatever is put in place of a directory while the tree is read, nothing outside is."""
    (place / "sub").mkdir()
    (place.parent / "outside").mkdir()
    (place.parent / "outside" / "secret").touch()
    entries = found(place).entries()
    assert [next(entries).path, next(entries).path] == [b".", b"sub"]
    (place / "sub").rmdir()
    (place / "sub").symlink_to(place.parent / "outside")
    with pytest.raises(ImageFailed, match="sub was changed while it was read"):
        list(entries)


def test_a_link_in_the_midst_of_it(place):
    """While somebody swaps a directory for a link again and again, nothing outside is ever read."""
    (place / "sub").mkdir()
    (place / "sub" / "secret").write_bytes(b"inside")
    (place.parent / "outside").mkdir()
    (place.parent / "outside" / "secret").write_bytes(b"outside")
    (place.parent / "link").symlink_to(place.parent / "outside")
    done = threading.Event()

    def swap():
        while not done.is_set():
            for first, second in ((place / "sub", place.parent / "kept"), (place.parent / "link", place / "sub")):
                os.rename(first, second)
            for first, second in ((place / "sub", place.parent / "link"), (place.parent / "kept", place / "sub")):
                os.rename(first, second)

    swapping = threading.Thread(target=swap)
    swapping.start()
    refused = 0
    try:
        for _ in range(300):
            try:
                layer = DirectoryLayer.of(str(place))
                assert read(layer).get(b"sub/secret", (None, b"inside"))[1] == b"inside"
            except ImageFailed:
                refused += 1
    finally:
        done.set()
        swapping.join()
    assert refused


def test_unreadable(place):
    """What this user may not read is named, with what to do."""
    (place / "file").write_bytes(b"content")
    (place / "sub").mkdir()
    for name in ("file", "sub"):
        (place / name).chmod(0)
        with unprivileged(place), pytest.raises(ImageFailed, match=f"{name} cannot be read: Permission") as caught:
            read(found(place))
        assert "readable" in caught.value.hint
        (place / name).chmod(0o755)


def test_names_that_mean_removal(place):
    """A name that an image cannot have is refused."""
    (place / "sub").mkdir()
    (place / "sub" / ".wh.a").touch()
    with pytest.raises(ImageFailed, match=r"sub/\.wh\.a: in an image"):
        found(place)


#: Mounts something with a file in it in a tree, and prints what is found there.
MOUNTED = """
import subprocess, sys
from aegis_sdk.images.local.directory import HostDirectory

subprocess.run(["mount", "-t", "tmpfs", "tmpfs", sys.argv[1] + "/mounted"], check=True)
open(sys.argv[1] + "/mounted/file", "x").close()
(layer,) = HostDirectory().find("dir:" + sys.argv[1], architecture="amd64").layers
print(*sorted(entry.path.decode() for entry in layer.entries()))
"""


def test_one_file_system(place):
    """What is mounted in the tree stays out of it, as an empty directory."""
    (place / "mounted").mkdir()
    alone = ["unshare", "--mount", *(["--user", "--map-root-user"] if os.geteuid() else [])]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine gives nobody a namespace to mount in")
    command = [*alone, sys.executable, "-c", MOUNTED, place]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    assert done.stdout.split() == [".", "mounted"]


def test_sparse_file(place):
    """A file of holes is read as zeros."""
    with (place / "holes").open("wb") as file:
        file.truncate(50 << 20)
    layer = found(place)
    assert layer.size == 50 << 20
    assert read(layer)[b"holes"][1] == bytes(50 << 20)
