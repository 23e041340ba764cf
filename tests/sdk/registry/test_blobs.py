"""A blob is whole and verified, or not there; whatever happens on its way."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_sdk.errors import ImageFailed, ImageInvalid
from aegis_sdk.images import digests
from aegis_sdk.images.registry.blobs import Blobs
from tests.sdk.registry.one_blob import DATA, DIGEST, NAME, Cancelled, Source, Stream, get, read


def test_fetched_once(blobs):
    """A blob is downloaded once, reported as it comes, kept read-only in a directory of its owner's own."""
    source, seen = Source(), list[int]()
    get(blobs, source, seen.append)
    assert read(blobs) == DATA
    assert seen == [*range(0, len(DATA), 1000), len(DATA)]
    get(blobs, source)
    assert source.starts == [0]
    assert os.listdir(blobs.directory) == [NAME]
    assert stat.S_IMODE(blobs.path(DIGEST).stat().st_mode) == 0o444
    assert stat.S_IMODE(blobs.directory.stat().st_mode) == 0o700


def test_an_interrupted_download_goes_on(blobs):
    """What came before a break stays, and is not asked for again."""
    with pytest.raises(ImageFailed):
        get(blobs, Source(fail_after=3000))
    assert os.listdir(blobs.directory) == [f"{NAME}.partial"]
    source, seen = Source(), list[int]()
    get(blobs, source, seen.append)
    assert source.starts == [3000]
    assert seen[0] == 3000
    assert read(blobs) == DATA


def test_a_cancelled_download_goes_on(blobs):
    """What *report* raises ends the download and reaches the caller; the next one resumes."""

    def report(count: int) -> None:
        if count >= 5000:
            raise Cancelled

    with pytest.raises(Cancelled):
        get(blobs, Source(), report)
    source = Source()
    get(blobs, source)
    assert source.starts == [5000]


def test_a_failure_before_the_first_byte_leaves_nothing(blobs):
    """No empty file stays behind."""
    with pytest.raises(ImageFailed):
        get(blobs, Source(fail_after=0))
    assert os.listdir(blobs.directory) == []


def test_a_source_that_begins_anew(blobs):
    """A source that cannot go on from the middle starts over, and the blob is right."""
    blobs.directory.mkdir()
    Path(blobs.directory, f"{NAME}.partial").write_bytes(DATA[:2500])
    source = Source()
    get(blobs, lambda _start: source(0))
    assert read(blobs) == DATA


@pytest.mark.parametrize("left", [b"x" * 2500, b"x" * len(DATA), DATA + b"x", DATA[:-1] + b"x"])
def test_a_partial_file_that_lies(blobs, left):
    """A partial file that a crash has spoiled costs a second download, not the blob."""
    blobs.directory.mkdir()
    Path(blobs.directory, f"{NAME}.partial").write_bytes(left)
    source = Source()
    get(blobs, source)
    assert read(blobs) == DATA
    assert source.starts[-1] == 0


def test_a_partial_file_that_was_all_there(blobs):
    """A download that was ended just before its renaming is not repeated."""
    blobs.directory.mkdir()
    Path(blobs.directory, f"{NAME}.partial").write_bytes(DATA)
    source = Source()
    get(blobs, source)
    assert source.starts == []
    assert read(blobs) == DATA


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (DATA[:-1] + b"x", len(DATA)),
        (DATA + b"x", len(DATA)),
        (DATA[:-1], len(DATA)),
        (DATA, len(DATA) - 1),
        (DATA, len(DATA) + 1),
        (DATA, 0),
    ],
)
def test_bytes_that_lie(blobs, data, size):
    """Wrong bytes, too many or too few are refused, and nothing of them stays."""
    with pytest.raises(ImageInvalid):
        get(blobs, Source(data), size=size)
    assert os.listdir(blobs.directory) == []


def test_too_many_bytes_end_at_once(blobs):
    """A source without end is left as soon as it has given more than it may."""
    given_out = list[int]()

    def endless(start: int) -> Stream:
        while True:
            yield start + 1000 * len(given_out), bytes(1000)
            given_out.append(1)

    with pytest.raises(ImageInvalid):
        blobs.get(DIGEST, size=3000, pieces=endless, report=lambda _count: None)
    assert len(given_out) == 3


def test_a_spoiled_blob_is_fetched_again(blobs):
    """A blob whose bytes have changed on disk is noticed and replaced."""
    get(blobs, Source())
    for spoiled in (b"", DATA[:-1], DATA[:-1] + b"x"):
        path = blobs.path(DIGEST)
        path.unlink()
        path.write_bytes(spoiled)
        source = Source()
        get(blobs, source)
        assert source.starts == [0]
        assert read(blobs) == DATA


def test_a_lie_about_its_size_does_not_cost_a_good_blob(blobs):
    """An image that names a blob with a wrong size is refused; the blob stays for the others."""
    get(blobs, Source())
    with pytest.raises(ImageInvalid, match=f"{len(DATA)} bytes, and its image says 5"):
        get(blobs, Source(), size=5)
    assert read(blobs) == DATA


def test_symbolic_links_are_not_followed(blobs, tmp_path):
    """A link in a file's place is replaced; what it leads to is neither read nor written."""
    victim = tmp_path / "victim"
    victim.write_bytes(DATA)
    blobs.directory.mkdir()
    blobs.path(DIGEST).symlink_to(victim)
    Path(blobs.directory, f"{NAME}.partial").symlink_to(victim)
    source = Source()
    get(blobs, source)
    assert source.starts == [0]
    assert not blobs.path(DIGEST).is_symlink()
    assert stat.S_IMODE(victim.stat().st_mode) != 0o444
    blobs.path(DIGEST).unlink()
    blobs.path(DIGEST).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        blobs.open(DIGEST)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["directory", "fifo"])
def test_something_else_in_the_way(blobs, make):
    """What is no file is an error that names the place, not a wait without end."""
    blobs.directory.mkdir()
    make(blobs.directory / f"{NAME}.partial")
    with pytest.raises(ImageFailed, match=NAME):
        get(blobs, Source())


@pytest.mark.parametrize("digest", ["sha256:../../x", "../x", "sha256:0", f"md5:{'0' * 32}", ""])
def test_a_digest_is_never_a_path(blobs, digest):
    """What is no digest reaches no file."""
    for use in (blobs.path, blobs.open, blobs.remove, blobs.size_on_disk):
        with pytest.raises(ImageInvalid):
            use(digest)
    with pytest.raises(ImageInvalid):
        get(blobs, Source(), digest=digest)


def test_too_little_room_is_said_before(blobs, monkeypatch):
    """Where a blob does not fit, nothing is downloaded, and the message has both numbers."""
    about = SimpleNamespace(f_bavail=5, f_frsize=1 << 20)
    monkeypatch.setattr(os, "fstatvfs", lambda _handle: about)
    source = Source()
    with pytest.raises(ImageFailed, match="takes 16 MiB, and 5 MiB are free") as caught:
        get(blobs, source)
    assert "prune" in caught.value.hint
    assert source.starts == []


def test_a_full_disk(blobs, monkeypatch):
    """A disk that fills up during the download is told as that, and frees its room with the next prune."""

    def full(_handle: int, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(ImageFailed, match="no room") as caught:
        get(blobs, Source())
    assert "prune" in caught.value.hint


def test_a_directory_that_cannot_be_written(tmp_path):
    """Where nothing can be kept, the error names the place."""
    (tmp_path / "blobs").write_text("a file")
    with pytest.raises(ImageFailed, match="blobs"):
        get(Blobs(tmp_path / "blobs"), Source())


def test_what_is_not_wanted_goes(blobs):
    """Only wanted blobs are kept, and downloads that may still go on; what is no blob is left alone."""
    other = b"other" * 2000
    get(blobs, Source())
    get(blobs, Source(other), size=len(other), digest=digests.of(other))
    fresh, stale = (blobs.directory / f"sha256-{c * 64}.partial" for c in "ab")
    for path in (fresh, stale):
        path.write_bytes(other)
    os.utime(stale, (0, 0))
    (blobs.directory / "note").write_text("mine")
    taken = blobs.size_on_disk(digests.of(other))
    assert taken >= len(other)
    assert blobs.keep_only({DIGEST}) == 2 * taken
    assert sorted(os.listdir(blobs.directory)) == sorted([NAME, fresh.name, "note"])
    assert blobs.size_on_disk(digests.of(other)) == 0


def test_a_store_that_is_not_there(blobs):
    """A store that nothing was put into yet is an empty one."""
    assert blobs.keep_only(set()) == 0
    assert blobs.size_on_disk(DIGEST) == 0
    assert blobs.remove(DIGEST) == 0


@given(left=st.binary(max_size=300), data=st.binary(max_size=300), restart=st.booleans())
def test_whatever_was_left(tmp_path_factory, left, data, restart):
    """Whatever a partial file holds, and whether or not a source can resume, the blob comes out right."""
    blobs = Blobs(tmp_path_factory.mktemp("blobs"))
    digest = digests.of(data)
    Path(blobs.directory, f"{digest.replace(':', '-')}.partial").write_bytes(left)
    source = Source(data)
    blobs.get(digest, size=len(data), pieces=lambda start: source(0 if restart else start), report=lambda _count: None)
    assert blobs.path(digest).read_bytes() == data
