"""What comes in pieces, read as lines, as bytes or by a listener."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aegis_sdk as aegis
from aegis_sdk.output import Listener, Output

PIECES = st.lists(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\n", b"a\nb", b"\xc3", b"\xa9"]), max_size=12)


def _output(pieces: list[bytes]) -> Output:
    left = iter(pieces)
    return Output(lambda: next(left, b""))


@given(PIECES)
def test_lines(pieces):
    """Lines are those of the whole, however it was cut into pieces; their newlines are theirs."""
    whole = b"".join(pieces)
    lines = [line + b"\n" for line in whole.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    assert list(_output(pieces)) == [line.decode("utf-8", "replace") for line in lines if line]


@given(PIECES, st.lists(st.integers(0, 20) | st.sampled_from(["line", "chunk"]), max_size=30))
def test_ways_of_reading_share_one_place(pieces, reads):
    """Whatever is read in whatever way, nothing is lost, nothing comes twice, and a size is that of the result."""
    whole, output, got = b"".join(pieces), _output(pieces), b""
    for read in reads:
        if read == "line":
            end = whole.find(b"\n", len(got)) + 1 or len(whole)
            assert output.readline() == whole[len(got) : end].decode("utf-8", "replace")
            got = whole[:end]
        elif read == "chunk":
            got += next(output.chunks(), b"")
        else:
            piece = output.read_bytes(read)
            assert len(piece) == min(read, len(whole) - len(got))
            got += piece
        assert whole.startswith(got)
    assert got + output.read_bytes() == whole
    assert (output.readline(), output.read_bytes(1), output.read()) == ("", b"", "")


def test_reading_is_gone_on_with():
    """What an iteration that was left has not given is there for the next."""
    output = _output([b"one\ntwo\nthree", b" and four\nfive"])
    for line in output:
        assert line == "one\n"
        break
    assert output.readline() == "two\n"
    assert output.read_bytes(5) == b"three"
    assert list(output) == [" and four\n", "five"]


@given(PIECES, st.lists(st.sampled_from(["line", "bytes"]), max_size=40))
def test_an_interrupted_read_loses_nothing(pieces, reads):
    """What a read had when it was interrupted is there for the next, whichever that is."""

    class Interruption(Exception):
        pass

    left = iter([each for piece in pieces for each in (None, piece)])

    def following() -> bytes:
        if (piece := next(left, b"")) is None:
            raise Interruption
        return piece

    output, whole, got = Output(following), b"".join(pieces), b""
    for read in [*reads, *["bytes"] * 60]:
        try:
            if read == "bytes":
                got += output.read_bytes(5)
            else:
                end = whole.find(b"\n", len(got)) + 1 or len(whole)
                assert output.readline() == whole[len(got) : end].decode("utf-8", "replace")
                got = whole[:end]
        except Interruption:
            continue
    assert got == whole


@pytest.mark.parametrize("size", [-1, 1.0, "1", True])
def test_sizes_that_cannot_be(size):
    """A size is a number of bytes, from 0 on."""
    with pytest.raises(aegis.InvalidValue):
        _output([]).read_bytes(size)


def test_many_small_pieces():
    """Lines and reads of a hundred thousand pieces take no time to speak of, nor do the lines of a large piece."""
    began = time.monotonic()
    assert len(_output([b"x"] * 100_000).readline()) == 100_000
    assert len(_output([b"x"] * 100_000).read_bytes(100_000)) == 100_000
    assert sum(1 for _ in _output([b"x\n" * 200_000])) == 200_000
    assert time.monotonic() - began < 5


@given(PIECES)
def test_a_listener_hears_the_text_of_the_whole(pieces):
    """Pieces of text, put together, are the text of the bytes, whatever was cut in their midst; the bytes are kept."""
    listener = Listener(print)
    heard = "".join([*map(listener.text, pieces), listener.last()])
    assert heard == b"".join(pieces).decode("utf-8", "replace")
    assert listener.kept() == b"".join(pieces)
