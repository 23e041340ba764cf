"""What a hostile guest sends as a tree lands in its destination, or nowhere."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aegis_sdk as aegis
from aegis_sdk.entries import Transferred
from aegis_sdk.guest.files import Kind
from aegis_sdk.guest.landing import Landing, Limits
from tests.sdk.fake_guest import entry, frame, guest

ROOT = entry("directory", b"x", mode=0o755)
LEAVE, END = frame(Kind.LEAVE), frame(Kind.END, b"{}")
SMALL = Limits(bytes=1 << 20, entries=100)


def land(said: bytes, destination: Path, limits: Limits = SMALL, *, name: str = "x") -> Transferred:
    with guest(said) as fake:
        try:
            return Landing(fake.call, limits).land(str(destination), name=name)
        except aegis.ProtocolViolation:
            assert fake.ended == [True]
            raise


@contextmanager
def place() -> Iterator[tuple[Path, Path]]:
    """A destination, and a directory beside it that nobody may touch."""
    with tempfile.TemporaryDirectory() as home:
        outside = Path(home, "outside")
        (outside / "sub").mkdir(parents=True)
        (outside / "file").write_text("kept")
        yield Path(home, "destination"), outside


def untouched(outside: Path) -> bool:
    return (
        sorted(str(path.relative_to(outside)) for path in outside.rglob("*")) == ["file", "sub"]
        and (outside / "file").read_text() == "kept"
        and {path.name for path in outside.parent.iterdir()} <= {"outside", "destination"}
    )


def test_a_tree():
    """Files, directories and links are made, with their modes."""
    said = ROOT + entry("file", b"f", mode=0o600) + frame(Kind.DATA, b"abc") + frame(Kind.DATA, b"def")
    said += entry("directory", b"d", mode=0o500) + entry("link", b"l", target=b"/etc/passwd") + LEAVE + LEAVE + END
    with place() as (destination, _):
        assert land(said, destination) == Transferred(files=1, directories=2, links=1, bytes=6)
        assert (destination / "f").read_bytes() == b"abcdef"
        assert os.readlink(destination / "d" / "l") == "/etc/passwd"
        assert (destination / "d").stat().st_mode & 0o7777 == 0o500


NAMES = [b"..", b".", b"", b"../outside/y", b"/etc/y", b"a/b", b"outside/../../outside/y"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_names_that_lead_elsewhere(name, kind):
    """A name that is no single name breaks the protocol, and nothing is made."""
    said = ROOT + entry(kind, name, target=b"y" if kind == "link" else b"") + LEAVE + LEAVE + END
    with place() as (destination, outside):
        with pytest.raises(aegis.ProtocolViolation, match="as a name"):
            land(said, destination)
        assert untouched(outside)
        assert not destination.exists()


def test_the_roots_name_is_not_the_guests():
    """What the guest calls the root of what it sends means nothing."""
    with place() as (destination, outside):
        land(entry("directory", b"../outside") + entry("file", b"f") + LEAVE + END, destination)
        assert (destination / "f").exists()
        land(entry("file", b"../outside/file") + frame(Kind.DATA, b"evil") + END, destination)
        assert (destination / "x").read_bytes() == b"evil"
        assert untouched(outside)


@pytest.mark.parametrize("target", ["../outside", "/tmp", ".", ".."])
def test_a_link_and_then_a_path_through_it(target):
    """A link and then a directory of its name is an error; a link and then a file of its name is a file."""
    link = entry("link", b"d", target=target.encode())
    with place() as (destination, outside):
        with pytest.raises(aegis.NotDirectory):
            land(ROOT + link + entry("directory", b"d") + entry("file", b"file") + LEAVE + LEAVE + END, destination)
        assert not destination.exists()
        land(ROOT + link + entry("file", b"d") + frame(Kind.DATA, b"x") + LEAVE + END, destination)
        assert (destination / "d").read_bytes() == b"x"
        assert not (destination / "d").is_symlink()
        assert untouched(outside)


def test_links_that_were_there():
    """Links of an earlier download are not followed by a later one."""
    with place() as (destination, outside):
        land(ROOT + entry("link", b"d", target=bytes(outside)) + LEAVE + END, destination)
        land(ROOT + entry("link", b"f", target=bytes(outside / "file")) + LEAVE + END, destination)
        with pytest.raises(aegis.NotDirectory):
            land(ROOT + entry("directory", b"d") + entry("file", b"file") + LEAVE + LEAVE + END, destination)
        land(ROOT + entry("file", b"f") + frame(Kind.DATA, b"x") + LEAVE + END, destination)
        assert untouched(outside)


def test_the_same_name_twice():
    """The last of a name counts; a file cannot take the place of a directory."""
    twice = entry("file", b"f") + frame(Kind.DATA, b"one") + entry("file", b"f") + frame(Kind.DATA, b"2")
    with place() as (destination, _):
        land(ROOT + twice + LEAVE + END, destination)
        assert (destination / "f").read_bytes() == b"2"
        with pytest.raises(aegis.FileFailed):
            land(ROOT + entry("directory", b"d") + LEAVE + entry("file", b"d") + LEAVE + END, destination)


def test_half_a_file_in_a_directory_that_was_there():
    """A merge that fails leaves no half file; what was whole stays."""
    said = ROOT + entry("file", b"whole") + frame(Kind.DATA, b"x") + entry("directory", b"d", mode=0o755)
    said += entry("file", b"half") + frame(Kind.DATA, bytes(1 << 10)) * 1100
    with place() as (destination, outside):
        (destination / "d").mkdir(parents=True)
        with pytest.raises(aegis.LimitExceeded):
            land(said, destination)
        assert sorted(path.name for path in destination.rglob("*")) == ["d", "whole"]
        assert untouched(outside)


def test_what_is_not_replaced():
    """A FIFO, and so a device such as /dev/null, stays what it is."""
    with place() as (destination, _):
        destination.mkdir()
        os.mkfifo(destination / "x")
        for said in (ROOT + entry("file", b"x") + LEAVE + END, ROOT + entry("link", b"x", target=b"y") + LEAVE + END):
            with pytest.raises(aegis.FileExists, match="not replaced"):
                land(said, destination)
        for where in (destination, destination / "x"):
            with pytest.raises(aegis.FileExists, match="not replaced"):
                land(entry("file", b"y") + END, where)
        assert [path.name for path in destination.iterdir() if path.is_fifo()] == ["x"]


VIOLATIONS = {
    "nothing": END,
    "a link as the root": entry("link", b"x", target=b"y") + END,
    "contents before a file": ROOT + frame(Kind.DATA, b"x") + LEAVE + END,
    "contents after a file": ROOT + entry("file", b"f") + LEAVE + frame(Kind.DATA, b"x") + END,
    "contents of a directory": ROOT + entry("file", b"f") + entry("directory", b"d") + frame(Kind.DATA, b"x"),
    "leaving too often": ROOT + LEAVE + LEAVE + END,
    "leaving a file": entry("file", b"f") + LEAVE + END,
    "an entry in a file": entry("file", b"f") + entry("file", b"g") + END,
    "an entry after all": ROOT + LEAVE + entry("file", b"g") + END,
    "an end in the midst": ROOT + END,
    "a change": ROOT + frame(Kind.CHANGE, b"c\0\1x") + LEAVE + END,
    "a question": ROOT + frame(Kind.READ, bytes(12)) + LEAVE + END,
    "a hole of nothing": ROOT + entry("file", b"f") + frame(Kind.HOLE, bytes(8)) + LEAVE + END,
    "a hole too large": ROOT + entry("file", b"f") + frame(Kind.HOLE, b"\x80" + bytes(7)) + LEAVE + END,
    "a hole that is short": ROOT + entry("file", b"f") + frame(Kind.HOLE, b"\x01") + LEAVE + END,
    "a hole of no file": ROOT + frame(Kind.HOLE, bytes(7) + b"\1") + LEAVE + END,
    "an outcome that is none": ROOT + LEAVE + frame(Kind.END, b'{"error": 7}'),
    "an entry of no kind": frame(Kind.ENTRY, b"z" + bytes(40)),
    "a link to nowhere": ROOT + frame(Kind.ENTRY, b"l" + bytes(33) + b"\1l"),
    "a name with NUL": ROOT + entry("file", b"a\0b") + LEAVE + END,
}


@pytest.mark.parametrize("said", VIOLATIONS.values(), ids=VIOLATIONS)
def test_what_makes_no_tree(said):
    """Frames in an order that makes no tree end the guest, and leave nothing."""
    with place() as (destination, outside):
        with pytest.raises(aegis.ProtocolViolation):
            land(said, destination)
        assert not destination.exists()
        assert untouched(outside)


def test_a_hole_that_no_file_can_have():
    """A file larger than the file system can hold is an error, and leaves nothing."""
    with place() as (destination, _):
        with pytest.raises(aegis.FileFailed, match="on this machine"):
            land(ROOT + entry("file", b"f") + frame(Kind.HOLE, b"\x7f" + bytes(7)) + LEAVE + END, destination)
        assert not destination.exists()


def test_a_file_where_there_can_be_none():
    """A guest that sends a file for what has no name of its own is not believed."""
    with place() as (destination, _):
        destination.mkdir()
        with pytest.raises(aegis.ProtocolViolation):
            land(entry("file", b"f") + END, destination, name="..")


@pytest.mark.parametrize(
    "said",
    [
        ROOT + entry("file", b"f") + frame(Kind.DATA, bytes(1000)) * 2000,
        ROOT + b"".join(entry("file", b"%d" % n) for n in range(1000)),
        ROOT + b"".join(entry("fifo", b"%d" % n) for n in range(1000)),
        ROOT + entry("file", b"f") + frame(Kind.HOLE, bytes(7) + b"\1") * 1000,
        ROOT + entry("directory", b"d") * 300,
    ],
    ids=["bytes", "entries", "fifos", "holes", "depth"],
)
def test_without_end(said):
    """Endless bytes, entries, holes or depth are more than a limit; what was made is removed."""
    with place() as (destination, _):
        with pytest.raises(aegis.LimitExceeded):
            land(said, destination, Limits(bytes=1 << 20, entries=400 if entry("directory", b"d") in said else 100))
        assert not destination.exists()


def test_an_end_that_does_not_come():
    """A guest that hangs up in the midst is an error, and leaves nothing."""
    with place() as (destination, _):
        with pytest.raises(aegis.SandboxClosed):
            land(ROOT + entry("directory", b"d", mode=0) + entry("file", b"f") + frame(Kind.DATA, b"x"), destination)
        assert not destination.exists()
        destination.write_text("old")
        with pytest.raises(aegis.SandboxClosed):
            land(entry("file", b"f") + frame(Kind.DATA, b"new"), destination)
        assert destination.read_text() == "old"
        assert len(list(destination.parent.iterdir())) == 2


def test_modes_and_times_without_sense():
    """Any mode and time that an entry can say is taken, but for bits that run programs as their owner."""
    times = [0, (1 << 63) - 1, (1 << 64) - (1 << 63), (1 << 64) - 1]
    said = ROOT
    for number, seconds in enumerate(times):
        payload = b"f" + (0o7777).to_bytes(4, "big") + bytes(16) + seconds.to_bytes(8, "big") + bytes(4) + b"\0\1"
        said += frame(Kind.ENTRY, payload + b"%d" % number)
    with place() as (destination, _):
        land(said + LEAVE + END, destination)
        assert {path.stat().st_mode & 0o7777 for path in destination.iterdir()} == {0o1777}


SINGLE = st.sampled_from([b"a", b"b", b"file", b"sub", b"\xff"])
ENTRIES = st.builds(
    entry,
    st.sampled_from(["file", "directory", "fifo"]),
    SINGLE | st.sampled_from([b"..", b"../outside/z", b"/tmp/z", b"outside"]),
    mode=st.sampled_from([0, 0o644, 0o755, 0o7777]),
)
LINKS = st.builds(
    lambda name, target: entry("link", name, target=target),
    SINGLE,
    st.sampled_from([b"..", b"../outside", b"../outside/file", b"a", b"/", b"."]),
)
OTHERS = st.sampled_from(
    [LEAVE, END, frame(Kind.DATA, b"data"), frame(Kind.DATA), frame(Kind.HOLE, bytes(6) + b"\1\0"), b"\0", b"\xff" * 9]
)


@given(st.lists(ENTRIES | LINKS | OTHERS | st.just(LEAVE), max_size=25), st.booleans())
def test_any_frames(frames, merged):
    """Whatever frames come in whatever order: what is beside the destination stays as it is."""
    with place() as (destination, outside):
        if merged:
            destination.mkdir()
            (destination / "a").symlink_to(outside)
            (destination / "b").symlink_to(outside / "file")
            (destination / "sub").mkdir()
        try:
            land(ROOT + b"".join(frames), destination)
        except (aegis.AegisError, OSError):
            assert merged or not destination.exists()
        assert untouched(outside)


@given(st.binary(max_size=300))
def test_any_bytes(said):
    """Whatever bytes come, they make a tree or an error."""
    with place() as (destination, outside):
        with pytest.raises(aegis.AegisError):
            land(said, destination)
        assert untouched(outside)
