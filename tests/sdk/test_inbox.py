"""What a command's connection brings is sorted, and whole whenever a signal handler raises."""

from __future__ import annotations

import json
import socket
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aegis_sdk as aegis
from aegis_sdk.guest import channel, inbox
from aegis_sdk.guest.channel import HEADER, Channel, Kind
from aegis_sdk.guest.inbox import Inbox, Unread
from aegis_sdk.model import Exit

STARTED = {"event": "started", "pid": 7}
EXITED = {"event": "exited", "code": 3}


class Interruption(Exception):
    """What a signal handler raises."""


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Inbox(Channel(ours)), theirs


def frame(kind: Kind, payload: bytes) -> bytes:
    return HEADER.pack(kind, len(payload)) + payload


def event(words: dict[str, object]) -> bytes:
    return frame(Kind.EVENT, json.dumps(words).encode())


def rest(box: Inbox, kind: Kind) -> bytes:
    return b"".join(iter(lambda: box.first(kind), b""))


def interrupted(function, after: int) -> bool:
    """Call *function*, and raise in it after so many of its steps; whether it had as many."""
    left = after
    files = {inbox.__file__, channel.__file__}

    def trace(code, what, _):
        nonlocal left
        if code.f_code.co_filename not in files:
            return None
        code.f_trace_opcodes = True
        if what == "opcode":
            left -= 1
            if left < 0:
                raise Interruption
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    except Interruption:
        return True
    finally:
        sys.settrace(before)
    return False


def test_interrupted_at_every_step(pair):
    """Wherever a handler raises: nothing that came is lost, comes twice or changes its place."""
    box, guest = pair
    guest.sendall(event(STARTED))
    out = err = b""
    number = step = 0
    went_on = True
    while went_on:
        for _ in range(3):
            number += 1
            guest.sendall(frame(Kind.STDOUT, b"%d " % number) + frame(Kind.STDERR, b"%d;" % number))
        went_on = interrupted(lambda: (box.take(), box.sort()), step)
        step += 1
        if step % 7 == 0:
            box.sort()
            out, err = out + box.first(Kind.STDOUT), err + box.first(Kind.STDERR)
    assert step > 100
    guest.sendall(event(EXITED))
    box.take()
    box.sort()
    assert out + rest(box, Kind.STDOUT) == b"".join(b"%d " % at for at in range(1, number + 1))
    assert err + rest(box, Kind.STDERR) == b"".join(b"%d;" % at for at in range(1, number + 1))
    assert (box.state.pid, box.state.exit) == (7, Exit(code=3))


def test_a_handler_that_reads_too(pair, monkeypatch):
    """A handler that reads in the midst of reading, and does not raise, disturbs nothing."""
    box, guest = pair
    sorts = Inbox.sort
    replace = Inbox._replace
    guest.sendall(frame(Kind.STDOUT, b"first "))
    box.take()
    guest.sendall(frame(Kind.STDOUT, b"second"))

    def handled(self, before, after):
        monkeypatch.setattr(Inbox, "_replace", replace)
        self.take()
        sorts(self)
        return replace(self, before, after)

    monkeypatch.setattr(Inbox, "_replace", handled)
    box.sort()
    assert rest(box, Kind.STDOUT) == b"first second"


def test_the_end(pair):
    """The end of the connection comes after all that it brought."""
    box, guest = pair
    guest.sendall(frame(Kind.STDOUT, b"last"))
    box.take()
    guest.close()
    box.sort()
    assert not box.state.over
    box.take()
    box.sort()
    assert box.state.over
    assert rest(box, Kind.STDOUT) == b"last"


def test_a_violation_stays_one(pair):
    """What was never a frame is a violation, however often it is looked at; what came before it is kept."""
    box, guest = pair
    guest.sendall(frame(Kind.STDOUT, b"kept"))
    box.take()
    box.sort()
    guest.sendall(b"\xff" * HEADER.size)
    box.take()
    for _ in range(2):
        with pytest.raises(aegis.ProtocolViolation):
            box.sort()
    assert rest(box, Kind.STDOUT) == b"kept"


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=9000), st.none())))
def test_unread(moves):
    """First in, first out; the size is what is in it."""
    unread, model, got = Unread(), b"", b""
    for move in moves:
        if move is None:
            piece, unread = unread.without_first()
            got += piece
        else:
            model, unread = model + move, unread.with_last(move)
        assert unread.size == len(model) - len(got)
    assert model.startswith(got)
    while unread.size:
        piece, unread = unread.without_first()
        got += piece
    assert got == model
    assert unread.without_first() == (b"", unread)
