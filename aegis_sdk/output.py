"""What a command writes to one stream: as lines, as bytes, or to a function that is called as it comes."""

from __future__ import annotations

import codecs
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from aegis_sdk.errors import InvalidValue

Tell = Callable[[str], object]


_Chain = tuple[Any, bytes] | None  # the pieces before it, and a piece: one more costs the same however many there are


@attrs.frozen
class _Begun:
    """A piece of which what is before *at* has been read; *before* it, the pieces of what is not whole yet."""

    before: _Chain = None
    piece: bytes = b""
    at: int = 0

    def up_to(self, end: int | None = None) -> bytes:
        """What is unread, to a place in the piece."""
        pieces, before = [self.piece[self.at : end]], self.before
        while before:
            before, piece = before
            pieces.append(piece)
        return b"".join(reversed(pieces))

    def followed_by(self, piece: bytes) -> _Begun:
        """The same and one piece more."""
        rest = self.piece[self.at :]
        return _Begun((self.before, rest) if rest else self.before, piece)


class Output:
    """One stream of a process: iterate over it for its lines of text, as they come.

    All ways of reading share one place in the stream, so that one can go on where another stopped.
    """

    def __init__(self, following: Callable[[], bytes]) -> None:
        self._following = following
        self._begun = _Begun()
        self._lock = threading.RLock()  # a signal handler may read on

    def chunks(self) -> Iterator[bytes]:
        """The bytes in the pieces in which they come, to the end of the stream."""
        while piece := self._chunk():
            yield piece

    def read_bytes(self, size: int | None = None) -> bytes:
        """The next *size* bytes, fewer only at the end of the stream; without *size*, all that is still to come."""
        if size is None:
            return b"".join(self.chunks())
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise InvalidValue(f"size must be a number of bytes, not {size!r}")
        with self._lock:
            return self._take(size)

    def read(self) -> str:
        """All that is still to come, as text; bytes that are not UTF-8 become U+FFFD."""
        return self.read_bytes().decode("utf-8", "replace")

    def readline(self) -> str:
        """The next line of text with its newline; the last may have none, and after it comes an empty one."""
        with self._lock:
            return self._line().decode("utf-8", "replace")

    def __iter__(self) -> Iterator[str]:
        """Lines of text with their newlines; the last may have none."""
        while line := self.readline():
            yield line

    def _chunk(self) -> bytes:
        with self._lock:
            rest, self._begun = self._begun.up_to(), _Begun()
            return rest or self._following()

    def _line(self) -> bytes:
        self._gather()
        while not (end := self._begun.piece.find(b"\n", self._begun.at) + 1):
            if not self._more():
                return self._chunk()
        return self._read_to(end)

    def _take(self, size: int) -> bytes:
        self._gather()
        while (here := len(self._begun.piece) - self._begun.at) < size:
            size -= here
            if not self._more():
                return self._chunk()
        return self._read_to(self._begun.at + size)

    def _gather(self) -> None:
        """Make one piece of what a read that was interrupted has left."""
        if self._begun.before:
            self._begun = _Begun(None, self._begun.up_to())

    def _more(self) -> bool:
        """Begin the next piece; false at the end of the stream."""
        begun, piece = self._begun, self._following()
        self._begun = begun.followed_by(piece)
        return bool(piece)

    def _read_to(self, end: int) -> bytes:
        begun = self._begun
        self._begun = _Begun(None, begun.piece, end)
        return begun.up_to(end)


class Listener:
    """Somebody who is told what a stream says, as text; all that it was told of is kept."""

    def __init__(self, tell: Tell) -> None:
        if not callable(tell):
            raise InvalidValue(f"who is to hear the output must be a function, not {tell!r}")
        self.tell = tell
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[bytes] = []

    def text(self, piece: bytes) -> str:
        """What is to be told of *piece*: a character that is not whole yet comes with the next."""
        self._pieces.append(piece)
        return self._decoder.decode(piece)

    def last(self) -> str:
        """What is to be told when there are no more pieces."""
        return self._decoder.decode(b"", final=True)

    def kept(self) -> bytes:
        """All of the stream."""
        return b"".join(self._pieces)
