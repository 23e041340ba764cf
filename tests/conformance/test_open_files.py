"""Open files of a guest, and changes in it, in both faces."""

from __future__ import annotations

import os
import threading

import pytest

import aegis_sdk as aegis
from tests.conftest import until

pytestmark = pytest.mark.timeout(90)


def test_reading_in_pieces(files):
    """A file is read in pieces, by lines, and from any place."""
    data = os.urandom(3_000_000)
    files.write("/tmp/file", data)
    with files.open("/tmp/file", "rb") as file:
        assert file.read(1_000_000) == data[:1_000_000]
        assert file.tell() == 1_000_000
        assert file.read() == data[1_000_000:]
        assert file.read(10) == b""
        assert file.seek(-5, os.SEEK_END) == 2_999_995
        assert file.read() == data[-5:]
        file.seek(7)
        assert file.read(3) == data[7:10]
    files.write("/tmp/file", "eins\nzwei\r\ndrei")
    with files.open("/tmp/file") as file:
        assert list(file) == ["eins\n", "zwei\n", "drei"]


def test_writing_in_pieces(files):
    """What is written is in the guest after flush, and after close, with what was there before in its place."""
    with files.open("/tmp/new/file", "w") as file:
        file.write("grün")
        file.flush()
        assert files.read_text("/tmp/new/file") == "grün"
        file.write("!")
    assert files.read_text("/tmp/new/file") == "grün!"
    with files.open("/tmp/new/file", "r+b") as file:
        file.seek(3)
        file.write(b"xx")
        file.seek(100)
        file.write(b"end")
        file.seek(0)
        assert file.read() == b"gr\xc3xx!" + bytes(94) + b"end"
        file.truncate(2)
    assert files.read("/tmp/new/file") == b"gr"
    with files.open("/tmp/new/file", "ab") as file:
        assert file.tell() == 2
        file.write(b"een")
        assert file.tell() == 5
    with files.open("/tmp/new/file", "w+") as file:
        file.write("x" * 3_000_000)
        file.seek(0)
        assert len(file.read()) == 3_000_000


def test_exclusive(files):
    """Mode x makes a file, and fails if there is one."""
    with files.open("/tmp/x", "x") as file:
        file.write("1")
    with pytest.raises(FileExistsError):
        files.open("/tmp/x", "x")
    for mode in ("", "rw", "b", "r++", "z", "rbt", "U"):
        with pytest.raises(aegis.InvalidValue, match="mode"):
            files.open("/tmp/x", mode)
    with pytest.raises(aegis.FileMissing):
        files.open("/tmp/none", "r+")


def test_what_a_mode_forbids(files):
    """Reading what was opened to be written, and the other way round, is Python's own error, as is a closed file's."""
    files.write("/tmp/f", "x")
    with files.open("/tmp/f", "rb") as file, pytest.raises(OSError, match="write"):
        file.write(b"x")
    with files.open("/tmp/f", "ab") as file, pytest.raises(OSError, match="read"):
        file.read()
    file = files.open("/tmp/f", "rb")
    file.close()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_a_full_disk_while_writing(files):
    """An error of the guest's file system comes where the data goes, and the file can still be used."""
    with files.open("/run/full", "wb", buffering=0) as file:

        def fill() -> None:
            while True:
                file.write(bytes(200_000))

        with pytest.raises(aegis.NoSpace):
            fill()
        file.seek(0)
        assert file.write(b"yes") == 3
    assert files.read("/run/full")[:4] == b"yes\0"
    files.remove("/run/full")


def test_an_open_file_stays(files):
    """A file that was removed can be read as long as it is open, as anywhere."""
    files.write("/tmp/f", b"still there")
    with files.open("/tmp/f", "rb", buffering=0) as file:
        files.remove("/tmp/f")
        assert file.read(100) == b"still there"


def test_many_open_files(files):
    """A hundred files are open at once."""
    opened = [files.open(f"/tmp/{number}", "w+") for number in range(100)]
    for number, file in enumerate(opened):
        file.write(str(number))
    for number, file in enumerate(opened):
        file.seek(0)
        assert file.read() == str(number)
        file.close()


def test_changes(files, sandbox):
    """What happens below a directory is told in its order, with paths, in directories made meanwhile, too."""
    files.mkdir("/tmp/w/deep")
    with files.watch("/tmp/w", recursive=True) as changes:
        sandbox.shell(
            "cd /tmp/w; echo 1 > deep/a; mv deep/a b; mkdir new; sleep 0.3; echo 2 > new/c; mv new old; sleep 0.1;"
            " echo 3 > old/d; chmod 600 b; mv b /tmp/b; rm -r old; touch end",
            check=True,
        )
        told: list[aegis.Change] = []
        for change in changes:
            if change.path == "/tmp/w/end":
                break
            if not told or told[-1] != change:
                told.append(change)
    story = [(each.kind, each.path, each.source) for each in told]
    assert [*story[:11], *sorted(story[11:])] == [
        ("created", "/tmp/w/deep/a", None),
        ("modified", "/tmp/w/deep/a", None),
        ("moved", "/tmp/w/b", "/tmp/w/deep/a"),
        ("created", "/tmp/w/new", None),
        ("created", "/tmp/w/new/c", None),
        ("modified", "/tmp/w/new/c", None),
        ("moved", "/tmp/w/old", "/tmp/w/new"),
        ("created", "/tmp/w/old/d", None),
        ("modified", "/tmp/w/old/d", None),
        ("modified", "/tmp/w/b", None),
        ("removed", "/tmp/w/b", None),
        ("removed", "/tmp/w/old", None),
        ("removed", "/tmp/w/old/c", None),
        ("removed", "/tmp/w/old/d", None),
    ]


def test_changes_of_one_file(files):
    """A file can be watched; when it has gone, that is told, and the watch is over."""
    files.write("/tmp/f", b"")
    with files.watch("/tmp/f") as changes:
        files.append("/tmp/f", b"x")
        files.remove("/tmp/f")
        told = [(each.kind, each.path) for each in changes]
    assert told[0] == ("modified", "/tmp/f")
    assert told[-1] == ("removed", "/tmp/f")
    with pytest.raises(aegis.FileMissing):
        files.watch("/tmp/f")


@pytest.fixture
def short_of_room(sandbox):
    """A guest whose kernel has few changes wait; more than the connection holds are still to be made."""
    limit = "/proc/sys/fs/inotify/max_queued_events"
    usual = sandbox.files.read_text(limit)
    sandbox.files.write(limit, "100")
    yield sandbox
    sandbox.files.write(limit, usual)


_MANY = f"i=0; while [ $i -lt 9000 ]; do : > {'x' * 190}$i; i=$((i+1)); done"


def test_changes_that_nobody_takes(short_of_room):
    """More changes than can wait are told to be lost, and the guest is not held up."""
    with short_of_room.files.watch("/tmp") as changes:
        short_of_room.shell(f"cd /tmp; {_MANY}; rm -rf *", check=True, timeout=60)
        assert any(change.kind == "overflow" for change in changes)


def test_a_watch_whose_end_was_lost(short_of_room):
    """A watch ends with its directory, also when that was among more changes than can wait."""
    short_of_room.files.mkdir("/tmp/gone")
    with short_of_room.files.watch("/tmp/gone") as changes:
        short_of_room.shell(f"cd /tmp/gone; {_MANY}; rm -r /tmp/gone", check=True, timeout=120)
        told = list(changes)
    assert "overflow" in [change.kind for change in told]
    assert (told[-1].kind, told[-1].path) == ("removed", "/tmp/gone")


def test_a_watch_of_what_is_unmounted(sandbox):
    """A watch ends when the file system with its directory goes."""
    sandbox.shell("mkdir /tmp/mounted; mount -t tmpfs none /tmp/mounted", check=True)
    with sandbox.files.watch("/tmp/mounted") as changes:
        sandbox.shell("umount /tmp/mounted", check=True)
        assert [(change.kind, change.path) for change in changes] == [("removed", "/tmp/mounted")]


def test_closing_a_watch(sandbox):
    """Who waits for a change waits no longer when the watch is closed, or with it the sandbox."""
    told: list[object] = []
    watch = sandbox.files.watch("/tmp")
    waiting = threading.Thread(target=lambda: told.extend(watch))
    waiting.start()
    watch.close()
    waiting.join(5)
    assert not waiting.is_alive()
    assert not told


def test_a_watch_ends_with_its_guest(boot):
    """A guest that goes ends its watches with what happened."""
    vm = boot()
    caught: list[BaseException] = []

    def wait() -> None:
        with vm.files.watch("/tmp") as changes:
            try:
                list(changes)
            except aegis.AegisError as error:
                caught.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not until(lambda: bool(caught), 0.3)
    vm.close()
    waiting.join(5)
    assert isinstance(caught[0], aegis.SandboxClosed)
