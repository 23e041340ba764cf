"""The yamux session, byte by byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aegis_sdk as aegis
from aegis_sdk.drivers import yamux
from aegis_sdk.drivers.yamux import ACK, DATA, FIN, GO_AWAY, HEADER, PING, RST, SYN, WINDOW, WINDOW_UPDATE
from tests.conftest import ROOT


def frame(kind: int, flags: int, stream: int, length: int, payload: bytes = b"") -> bytes:
    return HEADER.pack(0, kind, flags, stream, length) + payload


def feed(session: yamux.Session, data: bytes, step: int = 1 << 20) -> list[object]:
    """What the session makes of *data* in pieces of *step*; payloads joined and made to last."""
    events: list[object] = []
    for at in range(0, len(data), step):
        for event in session.feed(memoryview(data)[at : at + step]):
            if isinstance(event, yamux.Data):
                if events and isinstance(events[-1], tuple) and events[-1][0] == event.stream:
                    events[-1] = (event.stream, events[-1][1] + bytes(event.payload))
                else:
                    events.append((event.stream, bytes(event.payload)))
            else:
                events.append(event)
    return events


def sent(session: yamux.Session) -> bytes:
    data = b"".join(session.outgoing)
    session.sent(len(data))
    assert session.backlog == 0
    return data


@pytest.fixture
def session() -> yamux.Session:
    return yamux.Session()


def test_opening(session):
    """A stream opens with SYN and a raised window; numbers are odd."""
    assert (session.open(), session.open()) == (1, 3)
    raised = WINDOW - yamux.INITIAL_WINDOW
    assert sent(session) == frame(WINDOW_UPDATE, SYN, 1, raised) + frame(WINDOW_UPDATE, SYN, 3, raised)


def test_sending_uses_the_window(session):
    """What is sent is taken off the room, and the guest gives it back."""
    number = session.open()
    sent(session)
    session.send(number, b"abc")
    assert sent(session) == frame(DATA, 0, 1, 3, b"abc")
    assert session.room(number) == yamux.INITIAL_WINDOW - 3
    assert feed(session, frame(WINDOW_UPDATE, ACK, 1, 5)) == [yamux.Writable(1)]
    assert session.room(number) == yamux.INITIAL_WINDOW + 2


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=10), st.integers(min_value=1, max_value=40))
def test_pieces_of_any_size(payloads, step):
    """However the bytes are cut, the same events come out."""
    session = yamux.Session()
    session.open()
    data = b"".join(frame(DATA, 0, 1, len(payload), payload) for payload in payloads)
    events = feed(session, data + frame(WINDOW_UPDATE, FIN, 1, 0), step)
    expected: list[object] = [(1, b"".join(payloads))] if payloads else []
    assert events == [*expected, yamux.Finished(1)]


def test_half_close(session):
    """A stream is over when both ends have finished, in either order."""
    first, second = session.open(), session.open()
    session.finish(first)
    assert feed(session, frame(DATA, FIN, 1, 2, b"hi"), 13) == [(1, b"hi"), yamux.Finished(1)]
    assert feed(session, frame(WINDOW_UPDATE, FIN, 3, 0)) == [yamux.Finished(3)]
    session.finish(second)
    for number in (first, second):
        with pytest.raises(KeyError):
            session.room(number)


def test_what_comes_late_is_dropped(session):
    """Data for a stream that is gone on this side is passed over, frame by frame."""
    number = session.open()
    session.reset(number)
    session.open()
    assert feed(session, frame(DATA, 0, 1, 3, b"old") + frame(DATA, 0, 3, 3, b"new"), 2) == [(3, b"new")]
    session.consumed(number, 3)


def test_reset(session):
    """A stream that the guest resets is gone."""
    session.open()
    assert feed(session, frame(WINDOW_UPDATE, RST, 1, 0)) == [yamux.Reset(1)]


def test_pings(session):
    """A ping is answered with its value; an answer to ours is an event."""
    assert feed(session, frame(PING, SYN, 0, 77)) == []
    assert sent(session) == frame(PING, ACK, 0, 77)
    session.ping()
    assert sent(session) == frame(PING, SYN, 0, 1)
    assert feed(session, frame(PING, ACK, 0, 1)) == [yamux.Pong()]


def test_partial_sends(session):
    """What has left is taken off the front, wherever the system cut it."""
    number = session.open()
    session.send(number, b"abcdef")
    whole = b"".join(session.outgoing)
    session.sent(14)
    assert b"".join(session.outgoing) == whole[14:]
    assert session.backlog == len(whole) - 14


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(1, DATA, 0, 1, 0),
        HEADER.pack(0, 9, 0, 1, 0),
        frame(GO_AWAY, 0, 0, 0),
        frame(DATA, SYN, 2, 0),
        frame(DATA, 0, 0, 1, b"x"),
        frame(DATA, 0, 5, 1, b"x"),
        frame(DATA, 0, 1, WINDOW + 1),
        frame(DATA, FIN, 1, 0) + frame(DATA, 0, 1, 1, b"x"),
        frame(PING, SYN, 0, 1) * 500_000,
    ],
    ids=["version", "type", "go away", "even", "zero", "unknown", "window", "after fin", "ping flood"],
)
def test_a_guest_that_breaks_the_rules(session, data):
    """Nonsense, streams that nobody opened, more than the window, and floods are violations."""
    session.open()
    with pytest.raises(aegis.ProtocolViolation):
        feed(session, data)


@given(st.binary(max_size=200))
def test_any_bytes(data):
    """Whatever bytes come, the session takes them or says that they break the rules."""
    session = yamux.Session()
    session.open()
    violation = False
    try:
        feed(session, data, 7)
    except aegis.ProtocolViolation:
        violation = True
    assert violation or session.backlog <= HEADER.size + len(data)


def test_golden_frames():
    """The harness's tests read the same bytes and mean the same by them."""
    for entry in json.loads((ROOT / "tests/golden/yamux.json").read_text()):
        data = bytes.fromhex(entry["bytes"])
        payload = data[HEADER.size :]
        assert data == frame(entry["type"], entry["flags"], entry["stream"], entry["length"], payload), entry["name"]


def test_windows_do_not_overflow(session):
    """A guest may open its window as often as it likes; the room stays a sane number."""
    session.open()
    feed(session, frame(WINDOW_UPDATE, 0, 1, 0xFFFFFFFF) * 10)
    assert session.room(1) <= 1 << 32


def test_streams_of_the_guest():
    """Where they are taken, a guest opens streams with even numbers, which have the small window both ways."""
    session = yamux.Session(takes=True)
    opening = frame(WINDOW_UPDATE, SYN, 2, 0) + frame(DATA, 0, 2, 3, b"abc")
    assert feed(session, opening) == [yamux.Opened(2), (2, b"abc")]
    assert sent(session) == frame(WINDOW_UPDATE, ACK, 2, 0)
    assert session.room(2) == yamux.INITIAL_WINDOW
    with pytest.raises(aegis.ProtocolViolation, match="too many"):
        feed(session, frame(DATA, 0, 2, yamux.INITIAL_WINDOW, b""))


def test_a_stream_that_is_opened_and_closed_at_once():
    """All of it may come in one frame."""
    session = yamux.Session(takes=True)
    assert feed(session, frame(DATA, SYN | FIN, 2, 1, b"x")) == [yamux.Opened(2), (2, b"x"), yamux.Finished(2)]
    session.finish(2)
    assert feed(session, frame(WINDOW_UPDATE, SYN | RST, 8, 0)) == [yamux.Opened(8), yamux.Reset(8)]


@pytest.mark.parametrize("number", [0, 2, 4])
def test_streams_are_opened_in_order(number):
    """A number that was used, or passed over, is used no more."""
    session = yamux.Session(takes=True)
    feed(session, frame(WINDOW_UPDATE, SYN, 4, 0))
    with pytest.raises(aegis.ProtocolViolation, match="opened stream"):
        feed(session, frame(WINDOW_UPDATE, SYN, number, 0))


def test_streams_that_nobody_opened():
    """Who speaks on a stream that there never was breaks the protocol; on one that is over, it goes nowhere."""
    session = yamux.Session(takes=True)
    feed(session, frame(WINDOW_UPDATE, SYN, 2, 0))
    session.reset(2)
    assert feed(session, frame(DATA, 0, 2, 3, b"abc")) == []
    with pytest.raises(aegis.ProtocolViolation, match="never opened"):
        feed(session, frame(DATA, 0, 4, 3, b"abc"))
