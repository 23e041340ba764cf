"""Frames of file calls, from a guest that may send anything."""

from __future__ import annotations

import gc
import json
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aegis_sdk as aegis
from aegis_sdk.files import Files
from aegis_sdk.guest import files
from aegis_sdk.guest.channel import Channel
from aegis_sdk.guest.files import Entry, Kind, parse_change, parse_entry, parse_outcome
from aegis_sdk.guest.handle import GuestFile
from aegis_sdk.guest.sending import Sending
from tests.conftest import ROOT
from tests.sdk.fake_guest import entry, frame, guest

END = frame(Kind.END, b"{}")


@given(
    st.builds(
        Entry,
        st.sampled_from(["file", "directory", "fifo", "socket", "block device", "character device"]),
        st.integers(0, 0o7777),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**63 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(0, 10**9 - 1),
        st.binary(max_size=255).filter(lambda name: b"\0" not in name),
    )
)
def test_entries(thing):
    """An entry is read back as it was written."""
    assert parse_entry(thing.encode()) == thing
    assert parse_entry(thing.encode()).info("/d/n").path == "/d/n"


@given(st.binary(max_size=100))
def test_any_payload(payload):
    """Whatever a payload holds, it is a value or a violation."""
    for parse in (parse_entry, parse_change, parse_outcome):
        try:
            parse(payload)
        except aegis.ProtocolViolation:
            continue


def test_golden_entries():
    """The harness's tests read the same bytes and mean the same by them."""
    for golden in json.loads((ROOT / "tests/golden/entries.json").read_text()):
        name, target = bytes.fromhex(golden["name"]), bytes.fromhex(golden["target"])
        numbers = {key: golden[key] for key in ("mode", "uid", "gid", "size", "seconds", "nanoseconds")}
        thing = Entry(golden["kind"], **numbers, name=name, target=target)
        assert thing.encode() == bytes.fromhex(golden["bytes"]), golden
        assert parse_entry(bytes.fromhex(golden["bytes"])) == thing


@pytest.mark.parametrize(
    ("payload", "kind", "number"),
    [
        (b'{"error": "ENOENT", "path": "/x", "message": "no such file"}', aegis.FileMissing, "ENOENT"),
        (b'{"error": "EPERM", "path": "/x", "message": "no"}', aegis.FileDenied, "EPERM"),
        (b'{"error": "EROFS", "path": "/x", "message": "no"}', aegis.ReadOnlyFiles, "EROFS"),
        (b'{"error": "EDQUOT", "path": "/x", "message": "no"}', aegis.NoSpace, "EDQUOT"),
        (b'{"error": "EIO", "path": "/x", "message": "no"}', aegis.FileFailed, "EIO"),
        (b'{"error": "errorcode", "path": "/\\u001b[m", "message": "\\u001b[m"}', aegis.FileFailed, None),
    ],
)
def test_outcomes(payload, kind, number):
    """What failed becomes the error of its kind, its words fit for a terminal; a name that is none has no number."""
    import errno

    error = parse_outcome(payload)
    assert type(error) is kind
    assert error.errno == (getattr(errno, number) if number else None)
    assert "\x1b" not in str(error)


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 7, 100])
def test_pieces(cut, monkeypatch):
    """However the bytes are cut, frames are whole, and data comes in its order."""
    monkeypatch.setattr(files, "_BATCH", 1 << 15)
    take = Channel.receive_into
    monkeypatch.setattr(Channel, "receive_into", lambda self, room, deadline: take(self, room[:cut], deadline=deadline))
    data = bytes(range(256)) * 300
    said = entry("file", b"f") + frame(Kind.DATA) + frame(Kind.DATA, data) * 3 + entry("file", b"g") + END
    got, entries = b"", 0
    with guest(said) as fake:
        while True:
            kind, payload = fake.call.next(Kind.DATA, Kind.ENTRY)
            if kind is Kind.END:
                break
            if kind is Kind.ENTRY:
                entries += 1
            else:
                got += bytes(payload)
    assert (got, entries) == (data * 3, 2)


@pytest.mark.parametrize(
    "said", [b"{}\n" * 5, b"\0\xff\xff\xff\xff", frame(10, b"x"), frame(Kind.ENTRY, bytes(20_000))]
)
def test_frames_that_cannot_be(said):
    """Unknown kinds, and lengths without bound, are violations, said before anything is stored."""
    with guest(said) as fake:
        with pytest.raises(aegis.ProtocolViolation):
            fake.call.next(*Kind)
        assert fake.ended == [True]


def test_a_guest_that_says_nothing(monkeypatch):
    """A guest that neither takes nor gives is told, in time."""
    monkeypatch.setattr(files, "PATIENCE", 0.2)
    start = time.monotonic()
    with guest(b"", listens=False, stays=True) as fake:
        with pytest.raises(aegis.GuestNotResponding):
            fake.call.next()
        with pytest.raises(aegis.GuestNotResponding):
            fake.call.send_data(bytes(1 << 24))
    assert time.monotonic() - start < 5


def test_refused_while_sending(tmp_path):
    """What a guest refuses in the midst is raised at once, however much is still to be sent."""
    (tmp_path / "large").write_bytes(bytes(1 << 23))
    full = frame(Kind.END, b'{"error": "ENOSPC", "path": "/x", "message": "no space left on device"}')
    for listens in (True, False):
        with guest(full, listens=listens) as fake, pytest.raises(aegis.NoSpace):
            Sending(fake.call).send(str(tmp_path / "large"))
        assert len(fake.received) < 1 << 22
    with guest(END) as fake, pytest.raises(aegis.SandboxClosed):
        fake.call.send_data(bytes(1 << 24))


@pytest.mark.parametrize(
    "answer",
    [frame(Kind.DATA, bytes(300_000)), END, frame(Kind.ENTRY), frame(Kind.HOLE, bytes(8))],
    ids=["too much", "an end", "no entry", "a hole"],
)
def test_answers_that_cannot_be(answer):
    """An open file that gives more than was asked for, or ends by itself, breaks the protocol, and stays broken."""
    with guest(entry("file", b""), answers=(answer,)) as fake:
        file = GuestFile(fake.call, "r", "/x")
        for _ in range(2):
            with pytest.raises(aegis.ProtocolViolation):
                file.read(10)
        file.close()
        assert fake.ended == [True]


def test_an_answer_that_is_shorter():
    """An open file may give less than was asked for; the next read goes on from there."""
    some = frame(Kind.DATA, b"abc") + frame(Kind.DATA) + entry("file", b"")
    with (
        guest(entry("file", b""), answers=(some, some, entry("file", b""))) as fake,
        GuestFile(fake.call, "r", "/x") as file,
    ):
        assert file.read(10) == b"abc"
        assert file.tell() == 3
        assert file.read() == b"abc"


def test_a_failure_of_an_open_file():
    """What the guest's kernel refuses is raised, and the file can still be used."""
    refused = frame(Kind.FAILED, b'{"error": "EIO", "path": "/x", "message": "input/output error"}')
    answers = (refused, frame(Kind.DATA, b"abc") + entry("file", b""))
    with guest(entry("file", b""), answers=answers) as fake, GuestFile(fake.call, "r", "/x") as file:
        with pytest.raises(aegis.FileFailed, match="input/output error"):
            file.read(10)
        assert file.read(10) == b"abc"


def test_a_failure_is_let_go_of():
    """An error holds no call or open file of those that it came through, once it is forgotten."""
    refused = b'{"error": "ENOENT", "path": "/x", "message": "no such file"}'
    gc.disable()
    try:
        with guest(frame(Kind.END, refused)) as fake:
            with pytest.raises(aegis.FileMissing) as caught:
                fake.call.entry()
            error = weakref.ref(caught.value)
            del caught
            assert error() is None
    finally:
        gc.enable()


def test_a_listing_without_end(monkeypatch):
    """Long names fill no memory: a listing has a limit for all of them together."""
    monkeypatch.setattr("aegis_sdk.files._NAMES_LIMIT", 1 << 20)
    with guest(entry("link", b"n" * 8000, target=b"t" * 8000) * 100, stays=True) as fake:
        monkeypatch.setattr(Files, "_begin", lambda *_, **__: fake.call)
        monkeypatch.setattr(Files, "_place", lambda *_: "/d")
        with pytest.raises(aegis.LimitExceeded, match="of names"):
            Files(None, None).list("/d")  # type: ignore[arg-type]  # neither is asked for anything
