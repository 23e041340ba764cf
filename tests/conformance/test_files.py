"""The files of a guest, in both faces."""

from __future__ import annotations

import asyncio
import errno
import io
import os

import pytest

import aegis_sdk as aegis

pytestmark = pytest.mark.both_engines

ODD = "/tmp/odd \udcff\n\u00fc 'name"


def test_write_and_read(files, sandbox):
    """What is written is read back, whatever the bytes; the guest's own programs see the same."""
    data = bytes(range(256)) * 5000
    files.write("/tmp/file", data)
    assert files.read("/tmp/file") == data
    assert sandbox.run("cat", "/tmp/file").stdout_bytes == data
    sandbox.shell("printf 'a\\377' > /tmp/file", check=True)
    assert files.read("/tmp/file") == b"a\xff"
    files.write("/tmp/file", b"")
    assert files.read("/tmp/file") == b""


def test_text(files):
    """Text is UTF-8 unless something else is said; bytes that are none are an error or replaced, as asked."""
    files.write("/tmp/text", "grün\n")
    assert files.read_text("/tmp/text") == "grün\n"
    assert files.read("/tmp/text") == "grün\n".encode()
    files.write("/tmp/text", b"\xff")
    with pytest.raises(UnicodeDecodeError):
        files.read_text("/tmp/text")
    assert files.read_text("/tmp/text", encoding="latin-1") == "ÿ"
    assert files.read_text("/tmp/text", errors="replace") == "\N{REPLACEMENT CHARACTER}"


def test_contents_of_many_kinds(files, tmp_path):
    """Bytes, views, text and files of either kind can be written, files from where they are."""
    (tmp_path / "here").write_bytes(b"0123456789")
    with open(tmp_path / "here", "rb") as here:
        here.seek(4)
        files.write("/tmp/a", here)
    assert files.read("/tmp/a") == b"456789"
    for data in (bytearray(b"xy"), memoryview(b"xy"), "xy", io.StringIO("xy"), io.BytesIO(b"xy")):
        files.write("/tmp/a", data)
        assert files.read("/tmp/a") == b"xy"
    with pytest.raises(aegis.InvalidValue, match="not int"):
        files.write("/tmp/a", 7)
    assert files.read("/tmp/a") == b"xy"


def test_append(files):
    """Appending adds to the end, and makes a file that is missing."""
    files.append("/tmp/new/log", "one\n")
    files.append("/tmp/new/log", b"two\n")
    assert files.read("/tmp/new/log") == b"one\ntwo\n"


def test_missing_directories_are_made(files):
    """Writing makes the directories above a file."""
    files.write("/tmp/a/b/c/file", b"x")
    assert files.stat("/tmp/a/b/c").mode == 0o755
    with pytest.raises(aegis.NotDirectory):
        files.write("/tmp/a/b/c/file/below", b"x")


def test_modes(files):
    """A new file is 0644 or as asked; one that is there keeps its mode unless another is asked for."""
    files.write("/tmp/file", b"x")
    assert files.stat("/tmp/file").mode == 0o644
    files.chmod("/tmp/file", 0o751)
    files.write("/tmp/file", b"y")
    assert files.stat("/tmp/file").mode == 0o751
    files.write("/tmp/file", b"y", mode=0o4600)
    assert files.stat("/tmp/file").mode == 0o4600
    for wrong in (-1, 0o10000, "755", True):
        with pytest.raises(aegis.InvalidValue):
            files.chmod("/tmp/file", wrong)


def test_relative_paths(files):
    """A path that is not absolute is in the image's working directory."""
    files.write("tmp/relative", b"x")
    assert files.read("/tmp/relative") == b"x"
    assert files.stat("tmp/../tmp/relative").path == "/tmp/../tmp/relative"


def test_names_of_any_bytes(files, sandbox):
    """Names may hold any bytes but NUL and slash."""
    files.write(ODD, b"x")
    assert files.read(ODD) == b"x"
    assert [info.path for info in files.list("/tmp")] == [ODD]
    assert sandbox.shell("ls /tmp | wc -c").stdout.strip() == str(len(os.fsencode(ODD)) - len("/tmp/") + 1)
    for wrong in ("", "a\0b", "\ud800", 7, b"/tmp"):
        with pytest.raises(aegis.InvalidValue):
            files.read(wrong)
    with pytest.raises(aegis.InvalidValue, match="too long"):
        files.read("x" * 5000)


def test_stat(files, sandbox):
    """What a file is: kind, size, mode, owner, time, and where a link leads to."""
    sandbox.shell("cd /tmp; printf abc > f; ln -s f l; ln -s nowhere n; mkfifo p; chown 7:8 f; chmod 640 f", check=True)
    sandbox.run("touch", "-d", "2001-02-03 04:05:06", "/tmp/f", check=True)
    info = files.stat("/tmp/f")
    assert (info.name, info.kind, info.size, info.mode, info.uid, info.gid) == ("f", "file", 3, 0o640, 7, 8)
    assert info.mtime == 981173106
    assert files.stat("/tmp/l").size == 3
    link = files.stat("/tmp/l", follow=False)
    assert (link.kind, link.target, link.path) == ("link", "f", "/tmp/l")
    assert files.stat("/tmp/p").kind == "fifo"
    assert files.stat("/dev/null").kind == "character device"
    assert files.stat("/").kind == "directory"
    assert files.exists("/tmp/l")
    assert not files.exists("/tmp/n")
    assert not files.exists("/tmp/f/below")
    with pytest.raises(aegis.FileMissing):
        files.stat("/tmp/n")


def test_list(files, sandbox):
    """A directory's entries, by name, with what each is; links are not followed."""
    sandbox.shell("cd /tmp; mkdir d; echo > b; ln -s d a; for i in $(seq 1000); do : > d/$i; done", check=True)
    assert [(info.name, info.kind, info.path, info.target) for info in files.list("/tmp")] == [
        ("a", "link", "/tmp/a", "d"),
        ("b", "file", "/tmp/b", None),
        ("d", "directory", "/tmp/d", None),
    ]
    assert {info.name for info in files.list("/tmp/a")} == {str(n) for n in range(1, 1001)}
    assert "tmp" in {info.name for info in files.list()}
    with pytest.raises(aegis.NotDirectory):
        files.list("/tmp/b")


def test_directories(files):
    """Making one makes those above; twice is fine, in the place of a file it is not."""
    files.mkdir("/tmp/x/y/z", mode=0o1777)
    files.mkdir("/tmp/x/y/z")
    assert files.stat("/tmp/x/y/z").mode == 0o1777
    files.write("/tmp/file", b"")
    with pytest.raises(aegis.FileExists):
        files.mkdir("/tmp/file")


def test_remove(files, sandbox):
    """Files, links and empty directories are removed; full ones only when asked; links are never followed."""
    files.write("/tmp/kept/file", b"x")
    sandbox.shell("mkdir -p /tmp/d/e/f; ln -s /tmp/kept /tmp/d/e/link; touch /tmp/d/file; chmod 0 /tmp/d/e", check=True)
    with pytest.raises(aegis.DirectoryNotEmpty, match="recursive"):
        files.remove("/tmp/d")
    files.remove("/tmp/d/e/link")
    files.remove("/tmp/d/file")
    sandbox.run("ln", "-s", "/tmp/kept", "/tmp/d/e/link", check=True)
    files.remove("/tmp/d", recursive=True)
    assert [info.name for info in files.list("/tmp")] == ["kept"]
    assert files.read("/tmp/kept/file") == b"x"
    with pytest.raises(aegis.FileMissing):
        files.remove("/tmp/d", recursive=True)


def test_move(files, sandbox):
    """A file takes the place of another; a tree goes to another file system whole."""
    files.write("/tmp/a", b"new")
    files.write("/tmp/b", b"old")
    files.move("/tmp/a", "/tmp/b")
    assert files.read("/tmp/b") == b"new"
    assert not files.exists("/tmp/a")
    script = "mkdir -p t/e; printf 1 > t/f; chown 3:4 t/f; ln -s f t/l; chmod 500 t; truncate -s 1M t/e/h"
    sandbox.shell(f"cd /tmp; {script}; touch -d '2001-02-03 04:05:06' t/f", check=True)
    files.move("/tmp/t", "/workspace/t")
    said = sandbox.shell("cd /workspace; stat -c '%n %F %a %u:%g %s %Y' t/f; readlink t/l; stat -c '%a' t; du -k t/e/h")
    assert said.stdout == "t/f regular file 644 3:4 1 981173106\nf\n500\n0\tt/e/h\n"
    assert not files.exists("/tmp/t")
    files.write("/workspace/full/x", b"")
    files.mkdir("/tmp/u")
    with pytest.raises(aegis.FileFailed):
        files.move("/tmp/u", "/workspace/full")
    assert {info.name for info in files.list("/workspace")} == {"full", "t"}


def test_owners(files):
    """Files are root's; another user's when it asks, or when they are given to it."""
    files.write("/tmp/rootly", b"x")
    files.write("/tmp/mine/file", b"x", user="nobody")
    assert (files.stat("/tmp/rootly").uid, files.stat("/tmp/mine").uid, files.stat("/tmp/mine/file").uid) == (
        0,
        65534,
        65534,
    )
    files.chown("/tmp/rootly", "nobody:0")
    assert (files.stat("/tmp/rootly").uid, files.stat("/tmp/rootly").gid) == (65534, 0)
    with pytest.raises(aegis.FileFailed, match="no user named nosuch"):
        files.chown("/tmp/rootly", "nosuch")


def test_users_have_no_more_rights_than_theirs(files):
    """Who acts as a user is refused what that user is, and the next call is root's again."""
    files.write("/tmp/secret", b"x", mode=0o600)
    for refused in (
        lambda: files.read("/tmp/secret", user="nobody"),
        lambda: files.list("/root", user="1234:1234"),
        lambda: files.write("/run/x", b"", user="nobody"),
        lambda: files.remove("/tmp/secret", user="nobody"),
        lambda: files.chmod("/tmp/secret", 0o666, user="nobody"),
        lambda: files.move("/tmp/secret", "/tmp/s", user="nobody"),
    ):
        with pytest.raises(aegis.FileDenied):
            refused()
    assert files.read("/tmp/secret") == b"x"


FAILURES = [
    (lambda files: files.read("/no/such"), aegis.FileMissing, FileNotFoundError, "ENOENT", "/no/such"),
    (lambda files: files.read("/tmp"), aegis.IsDirectory, IsADirectoryError, "EISDIR", "/tmp"),
    (lambda files: files.list("/init/x"), aegis.FileMissing, FileNotFoundError, "ENOENT", "/init/x"),
    (lambda files: files.list("/etc/hosts"), aegis.NotDirectory, NotADirectoryError, "ENOTDIR", "/etc/hosts"),
    (lambda files: files.write("/etc/x", b""), aegis.ReadOnlyFiles, OSError, "EROFS", "/etc/x"),
    (lambda files: files.open("/etc/hosts", "x"), aegis.FileExists, FileExistsError, "EEXIST", "/etc/hosts"),
    (lambda files: files.read("/dev/zero"), aegis.FileFailed, OSError, "EINVAL", "/dev/zero"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure[3])
def test_failures(files, failure):
    """What goes wrong is both an AegisError and Python's own, with errno and path; a read-only root has a hint."""
    call, ours, pythons, number, path = failure
    with pytest.raises(pythons) as caught:
        call(files)
    error = caught.value
    assert isinstance(error, ours)
    assert (error.errno, error.filename) == (getattr(errno, number), path)
    assert f"{path} in the guest: " in str(error)
    assert ("writable=True" in error.hint) == (ours is aegis.ReadOnlyFiles)


def test_no_space(files):
    """A file system that is full says so, and the guest goes on."""
    with pytest.raises(aegis.NoSpace):
        files.write("/run/files", bytes(64 << 20))
    files.remove("/run/files")


def test_fifos_and_devices(files, sandbox):
    """Nothing waits for the other end of a FIFO, nor reads a device for ever."""
    sandbox.shell("mkfifo /tmp/fifo; ln -s /dev/zero /tmp/zero", check=True)
    for path in ("/tmp/fifo", "/dev/null", "/tmp/zero"):
        for call in (
            files.read,
            files.open,
            lambda path: files.write(path, b"x"),
            lambda path: files.append(path, b""),
        ):
            with pytest.raises(aegis.FileFailed, match="not a regular file"):
                call(path)


def test_kernel_files(files):
    """Files of /proc and /sys, which say that they are empty, are read to their end, and can be written."""
    assert files.read_text("/proc/sys/kernel/hostname") == "aegis\n"
    assert b"MemTotal" in files.read("/proc/meminfo")
    files.write("/proc/sys/kernel/hostname", "other")
    assert files.read_text("/proc/sys/kernel/hostname") == "other\n"
    files.write("/proc/sys/kernel/hostname", "aegis")


def test_what_is_of_no_kind(files):
    """What the kernel itself gives no kind, as some that processes have open, is refused; the guest goes on."""
    odd = [each.path for each in files.list("/proc/1/fd") if each.target == "anon_inode:[eventpoll]"]
    assert odd
    with pytest.raises(aegis.FileFailed, match="not a regular file"):
        files.stat(odd[0])
    assert files.exists("/proc/1")


def test_a_limit_on_reading(files):
    """More than the limit is an error that says how else; exactly the limit is not."""
    files.write("/tmp/file", bytes(1000))
    assert len(files.read("/tmp/file", limit=1000)) == 1000
    for path in ("/tmp/file", "/proc/self/status"):
        with pytest.raises(aegis.LimitExceeded, match="open"):
            files.read(path, limit=999 if path == "/tmp/file" else 10)


def test_links_lead_where_they_lead_in_the_guest(files, sandbox):
    """Links are followed by the guest's own root, to write, too."""
    sandbox.shell("ln -s ../../../../tmp/real /tmp/link; ln -s loop /tmp/loop", check=True)
    files.write("/tmp/link", b"x")
    assert files.read("/tmp/real") == b"x"
    assert files.stat("/tmp/link", follow=False).kind == "link"
    with pytest.raises(aegis.FileFailed, match="symbolic links") as caught:
        files.read("/tmp/loop")
    assert caught.value.errno == errno.ELOOP


def test_many_at_once(sandbox):
    """A hundred calls at once, each with its own answer."""

    async def story() -> None:
        files = aegis.AsyncFiles(sandbox.files)
        await asyncio.gather(*(files.write(f"/tmp/many/{n}", str(n)) for n in range(100)))
        texts = await asyncio.gather(*(files.read_text(f"/tmp/many/{n}") for n in range(100)))
        assert texts == [str(n) for n in range(100)]

    asyncio.run(story())
