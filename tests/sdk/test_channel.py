"""Lines and frames from a guest that may send anything."""

from __future__ import annotations

import itertools
import json
import os
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aegis_sdk as aegis
from aegis_sdk.guest import channel, requests
from aegis_sdk.guest.channel import FRAME_LIMIT, HEADER, LINE_LIMIT, Channel, Decoder, Kind, encode
from aegis_sdk.model import Command, Exit, SandboxSpec, TerminalSize
from tests.conftest import ROOT


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours), theirs


def guest(kind: int, payload: bytes) -> bytes:
    return HEADER.pack(kind, len(payload)) + payload


@given(
    st.lists(st.tuples(st.sampled_from([1, 2, 3]), st.binary(min_size=1, max_size=40)), max_size=8),
    st.integers(min_value=1, max_value=30),
)
def test_frames_in_pieces_of_any_size(frames, step):
    """However the bytes are cut: every stream's bytes in order, events whole, all in their order."""
    data = b"".join(guest(kind, payload) for kind, payload in frames)
    decoder, got = Decoder(), []
    for at in range(0, len(data), step):
        decoder, frames_here = decoder.feed(memoryview(data)[at : at + step])
        got += frames_here
    for stream in (Kind.STDOUT, Kind.STDERR):
        assert b"".join(p for k, p in got if k is stream) == b"".join(p for k, p in frames if k == stream)
    assert [p for k, p in got if k is Kind.EVENT] == [p for k, p in frames if k == Kind.EVENT]


@pytest.mark.parametrize("head", [(0, 1), (4, 1), (255, 1), (1, 0), (1, FRAME_LIMIT + 1), (3, 0xFFFFFFFF)])
def test_frames_that_cannot_be(head):
    """Unknown kinds, empty frames and frames without bound are violations, said before anything is stored."""
    with pytest.raises(aegis.ProtocolViolation):
        Decoder().feed(memoryview(HEADER.pack(*head) + b"x"))


@given(st.binary(max_size=100))
def test_any_bytes(data):
    """Whatever bytes come, they are frames or a violation."""
    try:
        assert all(payload for _, payload in Decoder().feed(memoryview(data))[1])
    except aegis.ProtocolViolation:
        assert len(data) >= HEADER.size


def test_encoding():
    """A frame is kind, length in network order, payload."""
    assert encode(Kind.STDIN, b"ab") == b"\0\0\0\0\2ab"


def test_lines(pair):
    """Lines come one by one, whatever came with them."""
    channel, theirs = pair
    theirs.sendall(b'{"a": 1}\n[2]\n"\xc3')
    assert channel.read_line() == {"a": 1}
    assert channel.read_line() == [2]
    theirs.sendall(b'\xbc"\n')
    assert channel.read_line() == "ü"
    theirs.close()
    with pytest.raises(EOFError):
        channel.read_line()


@pytest.mark.parametrize("line", [b"nonsense\n", b"\xff\n", b"[" * 100_000 + b"\n"])
def test_lines_that_are_no_json(pair, line):
    """A line that is not JSON is a violation."""
    channel, theirs = pair
    theirs.sendall(line)
    with pytest.raises(aegis.ProtocolViolation):
        channel.read_line()


def test_a_line_without_end(pair):
    """A line has a bound."""
    channel, theirs = pair
    theirs.settimeout(5)
    sender = threading.Thread(target=theirs.sendall, args=(b"x" * (LINE_LIMIT + 1000),))
    sender.start()
    with pytest.raises(aegis.ProtocolViolation, match="more than 1 MiB"):
        channel.read_line()
    sender.join()


def test_deadlines(pair):
    """Who waits for what does not come is told in time."""
    channel, _ = pair
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        channel.read_line(deadline=start + 0.1)
    with pytest.raises(BlockingIOError):
        channel.take({}, itertools.count())
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("heeded", [True, False])
def test_sending_waits_for_nobody(pair, monkeypatch, heeded):
    """What goes without waiting is sent, in whatever pieces, and nothing when there is no room, on any system."""
    if not heeded:  # as it is on macOS: to send more than there is room for would wait for ever
        monkeypatch.setattr(channel, "_CAN_SEND_SOME", False)
        monkeypatch.setattr(socket, "MSG_DONTWAIT", 0)
    here, there = pair
    data, sent = memoryview(bytes(range(256)) * 8192), 0
    while piece := here.send_some(data[sent:]):
        sent += piece
    assert 0 < sent < len(data)
    received = b""
    while len(received) < sent:
        received += there.recv(sent)
    assert received == data[:sent]
    assert here.send_some(data[sent:])


def test_a_command_on_the_wire(pair):
    """A process call says everything about its command, bytes that are no UTF-8 included."""
    channel, theirs = pair
    command = Command(argv=("sh", "\udcff"), env={"A": "ü"}, cwd="/x", user="0:0", stdin=True)
    before = time.time_ns()
    requests.start(channel, "id1", command, deadline=time.monotonic() + 1)
    said = json.loads(theirs.recv(1000))
    assert before <= said["time_ns"] <= time.time_ns()
    assert said == {
        "call": "process",
        "time_ns": said["time_ns"],
        "id": "id1",
        "argv": ["sh", "\udcff"],
        "env": {"A": "ü"},
        "cwd": "/x",
        "user": "0:0",
        "stdin": True,
        "tty": None,
    }


FAILED = b'{"event": "failed", "code": 127, "message": "\\u001b[m"}'
EVENTS = [
    (b'{"event": "started", "pid": 7}', requests.Started(7)),
    (FAILED, requests.NotStarted(127, "\N{REPLACEMENT CHARACTER}[m")),
    (b'{"event": "exited", "code": 143, "signal": 15, "oom": true}', Exit(code=143, signal=15, out_of_memory=True)),
    (b'{"event": "exited", "code": 0, "signal": null, "oom": false}', Exit(code=0)),
]


@pytest.mark.parametrize(("payload", "event"), EVENTS)
def test_events(payload, event):
    """Events become values, their words fit for a terminal."""
    assert requests.event(payload) == event


def test_golden_frames():
    """The harness's tests read the same bytes and mean the same by them."""
    for entry in json.loads((ROOT / "tests/golden/frames.json").read_text()):
        kind, payload, data = entry["kind"], bytes.fromhex(entry["payload"]), bytes.fromhex(entry["bytes"])
        assert encode(Kind(kind), payload) == data, entry["name"]
        if kind != Kind.STDIN:
            assert Decoder().feed(memoryview(data))[1] == [(kind, payload)], entry["name"]


@pytest.mark.parametrize(
    "call", json.loads((ROOT / "tests/golden/calls.json").read_text()), ids=lambda call: call["name"]
)
def test_golden_calls(pair, call):
    """A command that the harness's tests understand is said in the same line here."""
    channel, theirs = pair
    argv = tuple(os.fsdecode(bytes.fromhex(word)) for word in call["argv"])
    env = {os.fsdecode(bytes.fromhex(name)): os.fsdecode(bytes.fromhex(word)) for name, word in call["env"].items()}
    line = json.loads(call["line"])
    tty = call["tty"] and TerminalSize(*call["tty"])
    command = Command(argv=argv, env=env, cwd=call["cwd"], user=call["user"], stdin=call["stdin"], tty=tty)
    requests.start(channel, line["id"], command, deadline=time.monotonic() + 1)
    channel.hang_up()
    assert (said := json.loads(theirs.makefile("rb").read())) == {**line, "time_ns": said.get("time_ns")}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"7",
        b'{"event": "dance"}',
        b'{"event": "started"}',
        b'{"event": "started", "pid": -1}',
        b'{"event": "started", "pid": true}',
        b'{"event": "exited", "code": 256}',
        b'{"event": "exited", "code": 1e99}',
        b'{"event": "exited", "code": 0, "signal": "x"}',
        b'{"event": "failed", "code": 127, "message": 3}',
        b"{" * 50_000,
    ],
)
def test_events_that_cannot_be(payload):
    """An event of the wrong form is a violation, never believed."""
    with pytest.raises(aegis.ProtocolViolation):
        requests.event(payload)


MANY = dict.fromkeys(map(str, range(65)), 0)
ANSWERS = [
    ({"error": {"code": 1, "message": "root: no such device"}}, aegis.BootFailed, "root: no such device"),
    ({"error": "x"}, aegis.ProtocolViolation, "."),
    ({"result": []}, aegis.ProtocolViolation, "."),
    ({"result": {"protocol": 1, "kernel": 5, "phases": {}}}, aegis.ProtocolViolation, "."),
    ({"result": {"protocol": 1, "kernel": "x", "phases": {"a": -1}}}, aegis.ProtocolViolation, "."),
    ({"result": {"protocol": 1, "kernel": "x", "phases": MANY}}, aegis.ProtocolViolation, "."),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "error", "said"), ANSWERS)
def test_answers_to_boot(pair, answer, error, said):
    """A boot that failed says so in the harness's words; an answer of the wrong form is a violation."""
    channel, theirs = pair
    theirs.sendall(b'{"result": {"protocol": 1}}\n' + json.dumps(answer).encode() + b"\n")
    with pytest.raises(error, match=said):
        requests.boot(channel, SandboxSpec(), hostname="h", cwd="", deadline=time.monotonic() + 1)


def test_another_protocol(pair):
    """A harness of another version is told before it is asked for anything."""
    channel, theirs = pair
    theirs.sendall(b'{"result": {"protocol": 2}}\n')
    with pytest.raises(aegis.BootFailed, match="speaks protocol 2"):
        requests.boot(channel, SandboxSpec(), hostname="h", cwd="", deadline=time.monotonic() + 1)
