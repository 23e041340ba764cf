"""Bodies, in whatever pieces they come."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aegis_sdk.routing.bodies import BrokenBody, chunk, last_chunk, reading
from aegis_sdk.routing.framing import CHUNKED, EMPTY, UNTIL_CLOSE, Framing


def _pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[start:end] for start, end in pairwise(places)]


def _fed(body, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """What was contents, and what came after."""
    contents, pieces = b"", list(pieces)
    while pieces and not body.done:
        contents += body.feed(pieces.pop(0))
    return contents, body.rest + b"".join(pieces)


_CUTS = st.lists(st.integers(0, 500), max_size=20)
_EXTENSIONS = st.sampled_from([b"", b";a", b";a=b", b';a="x y"', b";" + 200 * b"z"])


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), _EXTENSIONS)), _CUTS, st.booleans(), st.binary(max_size=20)
)
def test_chunks_in_any_pieces(chunks, cuts, upper, after):
    """However chunks are cut on their way, their contents come out, without extensions, and what follows is left."""
    form = b"%X" if upper else b"%x"
    raw = b"".join(form % len(data) + extension + b"\r\n" + data + b"\r\n" for data, extension in chunks)
    raw += b"000;last\r\nA: 1\r\nB: 2\r\n\r\n" + after
    body = reading(CHUNKED)
    assert _fed(body, _pieces(raw, cuts)) == (b"".join(data for data, _ in chunks), after)
    assert list(body.trailers) == [("A", "1"), ("B", "2")]
    body.end()


@given(st.binary(max_size=40), _CUTS, st.binary(max_size=20))
def test_a_length_in_any_pieces(contents, cuts, after):
    """So many bytes are the body, and what follows is left."""
    body = reading(Framing(len(contents)))
    assert _fed(body, _pieces(contents + after, cuts)) == (contents, after)
    assert body.done
    body.end()


@given(st.lists(st.binary(max_size=50)))
def test_chunks_that_we_make(pieces):
    """What is written as chunks is read as them; an empty piece does not end them."""
    body = reading(CHUNKED)
    raw = b"".join(map(chunk, pieces)) + last_chunk(["T: x\r\n"])
    assert _fed(body, [raw]) == (b"".join(pieces), b"")
    assert list(body.trailers) == [("T", "x")]


BROKEN = {
    "a prefix": b"0x5\r\nhello\r\n",
    "a sign": b"+5\r\nhello\r\n",
    "less than nothing": b"-5\r\nhello\r\n",
    "no size": b"\r\nhello\r\n",
    "a space before": b" 5\r\nhello\r\n",
    "a space after": b"5 \r\nhello\r\n",
    "an underscore": b"1_0\r\nhello\r\n",
    "a bare line feed": b"5\nhello\r\n",
    "a line feed in an extension": b"5;a\nb\r\nhello\r\n",
    "a return in an extension": b"5;a\rb\r\nhello\r\n",
    "a NUL in an extension": b"5;\0\r\nhello\r\n",
    "too large": b"f" * 16 + b"\r\n",
    "a long extension": b"5;" + b"a" * 300,
    "a longer extension": b"5;" + b"a" * 300 + b"\r\nhello\r\n",
    "more than its size": b"5\r\nhello!\r\n",
    "a line feed after": b"5\r\nhello\n0\r\n\r\n",
    "a broken trailer": b"0\r\nnonsense\r\n\r\n",
    "a folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "a long trailer": b"0\r\nA: " + 20_000 * b"b",
    "many trailers": b"0\r\n" + 200 * b"A: b\r\n" + b"\r\n",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_chunks(name):
    """What is no chunk is not guessed at, whole or byte by byte."""
    for pieces in ([BROKEN[name]], [bytes([byte]) for byte in BROKEN[name]]):
        with pytest.raises(BrokenBody):
            _fed(reading(CHUNKED), pieces)


@pytest.mark.parametrize("raw", [b"", b"5", b"5\r\nhel", b"5\r\nhello", b"5\r\nhello\r\n", b"0\r\n", b"0\r\nA: b\r\n"])
def test_chunks_that_end_early(raw):
    """A body that ends before its last chunk is broken."""
    body = reading(CHUNKED)
    body.feed(raw)
    with pytest.raises(BrokenBody):
        body.end()


def test_other_ends():
    """Too few bytes are broken; whatever comes until the end is a body."""
    short = reading(Framing(5))
    short.feed(b"abc")
    with pytest.raises(BrokenBody):
        short.end()
    assert reading(EMPTY).done
    until = reading(UNTIL_CLOSE)
    assert until.feed(b"abc") == b"abc"
    assert not until.done
    until.end()
    assert until.done
