"""Files and trees to a guest and back, in both faces."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import signal
import socket
import threading
from pathlib import Path

import pytest

import aegis_sdk as aegis
from tests.conftest import until

MIB = 1 << 20

pytestmark = pytest.mark.timeout(90)


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """What a tree of this machine is: of each thing its kind and mode, time, target or contents."""
    found: dict[str, tuple[object, ...]] = {}
    for directory, directories, names in os.walk(os.fsencode(root)):
        for name in (b".", *directories, *names):
            path = os.path.join(directory, name)
            about = os.lstat(path)
            what = os.readlink(path) if os.path.islink(path) else b""
            if os.path.isfile(path) and not what:
                what = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).digest()
            found[os.fsdecode(os.path.relpath(path, os.fsencode(root)))] = (about.st_mode, about.st_mtime_ns, what)
    return found


def plant(root: Path) -> None:
    """A tree with something of everything."""
    (root / "d/e").mkdir(parents=True)
    (root / "empty").mkdir(mode=0o701)
    (root / "file").write_bytes(bytes(range(256)) * 3000)
    (root / "none").touch()
    (root / "d/e/program").write_text("#!/bin/sh\necho ran\n")
    (root / "d/e/program").chmod(0o755)
    (root / "d/locked").write_text("x")
    (root / "d/locked").chmod(0)
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "up").symlink_to("../../x")
    (root / "to-directory").symlink_to("d")
    Path(os.fsdecode(bytes(root) + b"/odd \xff\nname")).write_bytes(b"odd")
    (root / "d/shared").mkdir(mode=0o1777)
    (root / "d/shared").chmod(0o1777)
    for number, path in enumerate(sorted(root.rglob("*"))):
        os.utime(path, ns=(0, 10**18 + number * 123_456_789), follow_symlinks=False)
    (root / "d").chmod(0o500)
    os.utime(root, ns=(0, 5 * 10**17))


def test_there_and_back(files, sandbox, tmp_path):
    """Modes, times, links, empty directories and names of any bytes survive both ways."""
    plant(tmp_path / "tree")
    done = files.upload(tmp_path / "tree", "/workspace/a/tree")
    assert (done.files, done.directories, done.links) == (5, 5, 3)
    assert done.bytes == 256 * 3000 + len("#!/bin/sh\necho ran\n") + 4
    assert sandbox.run("/workspace/a/tree/d/e/program").stdout == "ran\n"
    assert not sandbox.run("find", "/workspace/a", "!", "-user", "root", check=True).stdout
    again = files.download("/workspace/a/tree", tmp_path / "new" / "back")
    assert described(tmp_path / "new" / "back") == described(tmp_path / "tree")
    assert again == done


def test_holes(files, sandbox, tmp_path):
    """Holes stay holes, wherever they are, and take no time or space."""
    with open(tmp_path / "sparse", "wb") as sparse:
        for at in (1 * MIB, 700 * MIB):
            sparse.seek(at)
            sparse.write(b"data" * 3000)
        sparse.truncate(1024 * MIB)
    os.truncate(tmp_path / "sparse", 1024 * MIB)
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", 5 * MIB + 1)
    for name in ("sparse", "hole"):
        done = files.upload(tmp_path / name, "/tmp/")
        assert done.bytes < MIB
        assert int(sandbox.run("du", "-k", f"/tmp/{name}").stdout.split()[0]) < 200
        files.download(f"/tmp/{name}", tmp_path / "back")
        about = os.stat(tmp_path / "back")
        assert about.st_size == os.path.getsize(tmp_path / name)
        assert about.st_blocks * 512 < MIB
    with open(tmp_path / "back2", "wb") as back:
        files.download("/tmp/sparse", back.name)
    with open(tmp_path / "back2", "rb") as back:
        assert os.lseek(back.fileno(), 0, os.SEEK_DATA) <= MIB
        back.seek(700 * MIB - 4)
        assert back.read(12) == bytes(4) + b"datadata"


def test_where_a_file_lands(files, tmp_path):
    """A file becomes the destination, or goes into it if it is a directory or ends with a slash; both ways."""
    (tmp_path / "f").write_text("x")
    files.mkdir("/tmp/d")
    for destination, place in (
        ("/tmp/g", "/tmp/g"),
        ("/tmp/d", "/tmp/d/f"),
        ("/tmp/new/", "/tmp/new/f"),
        ("/tmp/p/q", "/tmp/p/q"),
    ):
        files.upload(tmp_path / "f", destination)
        assert files.read(place) == b"x"
    (tmp_path / "d").mkdir()
    for destination, place in (("g", "g"), ("d", "d/f"), ("new/", "new/f"), ("p/q", "p/q")):
        files.download("/tmp/d/f", f"{tmp_path}/{destination}")
        assert (tmp_path / place).read_text() == "x"


def test_a_directory_is_merged(files, sandbox, tmp_path):
    """A directory becomes the destination: what is there stays, files of the same name are replaced, both ways."""
    for name in ("a", "b"):
        (tmp_path / "tree" / "sub").mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / "sub" / name).write_text("new")
    sandbox.shell(
        "mkdir -p /tmp/t/sub; echo old > /tmp/t/sub/a; echo old > /tmp/t/sub/c; chmod 1777 /tmp/t", check=True
    )
    files.upload(tmp_path / "tree", "/tmp/t")
    assert sandbox.shell("cat /tmp/t/sub/*; stat -c %a /tmp/t").stdout == "newnewold\n1777\n"
    (tmp_path / "tree" / "sub" / "a").write_text("old")
    (tmp_path / "tree" / "mine").write_text("mine")
    files.download("/tmp/t", tmp_path / "tree")
    assert (tmp_path / "tree" / "sub" / "a").read_text() == "new"
    assert (tmp_path / "tree" / "sub" / "c").read_text() == "old\n"
    assert (tmp_path / "tree" / "mine").read_text() == "mine"


def test_links_that_are_there_are_not_followed(files, sandbox, tmp_path):
    """A link in the place of a file is replaced; one in the place of a directory is an error; both ways."""
    (tmp_path / "tree" / "d").mkdir(parents=True)
    (tmp_path / "tree" / "f").write_text("new")
    (tmp_path / "tree" / "d" / "g").write_text("new")
    sandbox.shell("mkdir -p /tmp/t /tmp/out; echo kept > /tmp/out/f; ln -s ../out/f /tmp/t/f", check=True)
    files.upload(tmp_path / "tree", "/tmp/t")
    assert sandbox.shell("cat /tmp/out/f /tmp/t/f").stdout == "kept\nnew"
    sandbox.shell("rm -r /tmp/t/d; ln -s ../out /tmp/t/d", check=True)
    with pytest.raises(aegis.NotDirectory):
        files.upload(tmp_path / "tree", "/tmp/t")
    assert sandbox.shell("ls /tmp/out").stdout == "f\n"

    (tmp_path / "out").mkdir()
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "d").symlink_to(tmp_path / "out")
    sandbox.shell("rm /tmp/t/d; mkdir /tmp/t/d; touch /tmp/t/d/g", check=True)
    with pytest.raises(aegis.NotDirectory):
        files.download("/tmp/t", tmp_path / "back")
    assert not list((tmp_path / "out").iterdir())


def test_set_user_id(files, sandbox, tmp_path):
    """Bits that make a program run as its owner are dropped both ways, unless they are asked for."""
    sandbox.shell("mkdir /tmp/t; touch /tmp/t/p; chmod 6755 /tmp/t/p", check=True)
    files.download("/tmp/t", tmp_path / "dropped")
    assert os.stat(tmp_path / "dropped" / "p").st_mode & 0o7777 == 0o755
    files.download("/tmp/t", tmp_path / "kept", setuid=True)
    assert os.stat(tmp_path / "kept" / "p").st_mode & 0o7777 == 0o6755
    files.upload(tmp_path / "kept", "/tmp/dropped")
    files.upload(tmp_path / "kept", "/tmp/kept", setuid=True)
    assert (files.stat("/tmp/dropped/p").mode, files.stat("/tmp/kept/p").mode) == (0o755, 0o6755)


def test_what_is_left_out(files, sandbox, tmp_path):
    """Devices, sockets and FIFOs do not travel, and are told; asked for themselves, they are an error."""
    (tmp_path / "tree" / "d").mkdir(parents=True)
    os.mkfifo(tmp_path / "tree" / "d" / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "tree" / "socket"))
        left = files.upload(tmp_path / "tree", "/tmp/t").left_out
    assert set(left) == {str(tmp_path / "tree" / "d" / "fifo"), str(tmp_path / "tree" / "socket")}
    sandbox.shell("mkfifo /tmp/t/fifo", check=True)
    assert files.download("/tmp/t", tmp_path / "back").left_out == (str(tmp_path / "back" / "fifo"),)
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["d"]
    with pytest.raises(aegis.InvalidValue):
        files.upload(tmp_path / "tree" / "d" / "fifo", "/tmp/")
    with pytest.raises(aegis.FileFailed, match="not a regular file"):
        files.download("/tmp/t/fifo", tmp_path / "x")


def test_as_a_user(files, tmp_path):
    """What a user uploads is that user's; a user downloads what it may read."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "f").write_text("x")
    files.upload(tmp_path / "tree", "/tmp/t", user="nobody")
    assert {files.stat(path).uid for path in ("/tmp/t", "/tmp/t/f")} == {65534}
    files.write("/tmp/t/secret", b"", mode=0o600)
    with pytest.raises(aegis.FileDenied, match="/tmp/t/secret"):
        files.download("/tmp/t", tmp_path / "back", user="nobody")
    assert not (tmp_path / "back").exists()


def test_limits(files, tmp_path):
    """A download ends at its limit, and leaves nothing; just the limit is not too much."""
    for name in ("a", "b"):
        files.write(f"/tmp/t/{name}", bytes(1000))
    assert files.download("/tmp/t", tmp_path / "enough", limit=2000, entries=3).bytes == 2000
    for limits in ({"limit": 1999}, {"entries": 2}):
        with pytest.raises(aegis.LimitExceeded):
            files.download("/tmp/t", tmp_path / "back", **limits)
        with pytest.raises(aegis.LimitExceeded):
            files.download("/tmp/t/a", tmp_path / "file", limit=999)
    assert [path.name for path in tmp_path.iterdir()] == ["enough"]


def test_a_file_is_replaced_whole_or_not_at_all(files, tmp_path):
    """A download that fails leaves the file that was there."""
    (tmp_path / "file").write_text("old")
    files.write("/tmp/file", bytes(1000))
    with pytest.raises(aegis.LimitExceeded):
        files.download("/tmp/file", tmp_path / "file", limit=10)
    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_wrong_on_this_machine(files, tmp_path):
    """Errors of this machine say that they are, and are Python's own, too."""
    with pytest.raises(aegis.FileMissing, match="on this machine"):
        files.upload(tmp_path / "none", "/tmp/x")
    assert not files.exists("/tmp/x")
    files.write("/tmp/x", b"")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="on this machine"):
        files.download("/tmp/x", tmp_path / "file" / "below")
    with pytest.raises(aegis.FileMissing, match="in the guest"):
        files.download("/tmp/none", tmp_path / "x")
    with pytest.raises(aegis.InvalidValue):
        files.download("/tmp/x", "")


def test_deep_trees(files, sandbox, tmp_path):
    """Two hundred directories in each other travel; more than can be is an error, and all can be removed."""
    deep = "/".join(["d"] * 200)
    files.mkdir(f"/tmp/t/{deep}")
    files.write(f"/tmp/t/{deep}/f", b"x")
    files.download("/tmp/t", tmp_path / "t")
    assert (tmp_path / "t" / deep / "f").read_text() == "x"
    files.upload(tmp_path / "t", "/tmp/u")
    assert files.read(f"/tmp/u/{deep}/f") == b"x"
    sandbox.shell(f"mkdir -p /tmp/u/{deep}/{deep}", check=True)
    with pytest.raises(aegis.AegisError, match="256"):
        files.download("/tmp/u", tmp_path / "u")
    assert not (tmp_path / "u").exists()
    files.remove("/tmp/u", recursive=True)


def test_a_tree_of_many_files(files, tmp_path):
    """Two thousand files come back byte for byte."""
    for number in range(2000):
        path = tmp_path / "tree" / str(number % 40) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(number % 300))
    assert files.upload(tmp_path / "tree", "/tmp/t").files == 2000
    files.download("/tmp/t", tmp_path / "back")
    assert described(tmp_path / "back") == described(tmp_path / "tree")


@pytest.mark.timeout(180)
def test_large_files_in_bounded_memory(boot, tmp_path):
    """A file of 80 MiB goes there and back equal, and neither end keeps it in memory."""
    vm = boot(memory=640)
    piece = os.urandom(MIB)
    with open(tmp_path / "large", "wb") as large:
        large.writelines(number.to_bytes(4, "big") + piece[4:] for number in range(80))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    vm.files.upload(tmp_path / "large", "/tmp/large")
    vm.files.download("/tmp/large", tmp_path / "back")
    with open(tmp_path / "large", "rb") as large:
        vm.files.write("/tmp/large", large)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10 < 20 * MIB
    with open(tmp_path / "large", "rb") as one, open(tmp_path / "back", "rb") as other:
        assert hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()
    resident = int(vm.shell("grep VmHWM /proc/1/status").stdout.split()[1])
    assert resident << 10 < 40 * MIB


def test_interrupted(boot, tmp_path):
    """Ctrl-C ends a download at once, and leaves nothing of it; the sandbox answers."""
    vm = boot()
    vm.run("dd", "if=/dev/zero", "of=/tmp/file", "bs=1M", "count=150", check=True)

    def interrupt() -> None:
        until(lambda: any(path.stat().st_size > MIB for path in tmp_path.iterdir()), 10)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        vm.files.download("/tmp/file", tmp_path / "file")
    thread.join()
    assert not list(tmp_path.iterdir())
    assert vm.files.stat("/tmp/file").size == 150 * MIB


def test_cancelled(sandbox, tmp_path):
    """A cancelled call ends, in the guest and here."""
    files = aegis.AsyncFiles(sandbox.files)

    class Endless:
        taken = 0

        def read(self, size: int) -> bytes:
            self.taken += 1
            return bytes(size)

    async def story() -> None:
        endless = Endless()
        task = asyncio.create_task(files.write("/tmp/endless", endless))  # type: ignore[arg-type]
        await asyncio.to_thread(until, lambda: endless.taken > 3, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.5)
        taken = endless.taken
        await asyncio.sleep(0.5)
        assert endless.taken == taken
        await files.remove("/tmp/endless")

    asyncio.run(story())


def test_the_guest_ends_meanwhile(boot):
    """A guest that dies, and a sandbox that is closed, end a transfer with what happened."""
    vm = boot()
    ends = threading.Timer(0.5, lambda: os.kill(vm.info().pid, signal.SIGKILL))
    ends.start()
    with pytest.raises(aegis.GuestDied, match="write of /tmp/x"), open("/dev/zero", "rb") as zeros:
        vm.files.write("/tmp/x", zeros)
    ends.join()
    vm = boot()
    ends = threading.Timer(0.5, vm.close)
    ends.start()
    with pytest.raises(aegis.SandboxClosed), open("/dev/zero", "rb") as zeros:
        vm.files.write("/dev/shm/x", zeros)
    ends.join()
    with pytest.raises(aegis.SandboxClosed):
        vm.files.read("/tmp/x")
