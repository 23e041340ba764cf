"""The lines of a log file: each a run of entries that came at once from one source, numbered by the first."""

from __future__ import annotations

import binascii
import json
import math
from collections.abc import Iterator

import attrs

from aegis_sdk.model import LogEntry

#: No entry is longer (bytes): a longer line is several.
PIECE = 16 << 10
#: Nor is what one record holds.
_BLOCK = 64 << 10
#: What a line of the file may take, with every byte of its data escaped.
LONGEST = 8 * _BLOCK


def pieces(data: bytes) -> Iterator[bytes]:
    """The entries that *data* is: lines with their newlines, and pieces of those that are too long."""
    at = 0
    while at < len(data):
        newline = data.find(b"\n", at, at + PIECE)
        end = newline + 1 or _piece_end(data, at)
        yield data[at:end]
        at = end


def count(data: bytes) -> int:
    """How many entries *data* is; as ``pieces``, but without looking at each."""
    total = at = 0
    while at < len(data):
        newline = data.rfind(b"\n", at, at + PIECE)
        end = newline + 1 or _piece_end(data, at)
        total += 1 if newline < 0 else data.count(b"\n", at, end)
        at = end
    return total


def _piece_end(data: bytes, at: int) -> int:
    """The end of a piece without a newline, which leaves a character of UTF-8 whole."""
    end = min(len(data), at + PIECE)
    for earlier in range(end, max(at, end - 4), -1):
        if earlier == len(data) or data[earlier] & 0xC0 != 0x80:
            return earlier
    return end


def cut(data: bytes) -> tuple[bytes, bytes]:
    """What of *data* is entries by now, and the line that may go on; that is shorter than a piece."""
    at = data.rfind(b"\n") + 1
    while len(data) - at > PIECE:
        at = _piece_end(data, at)
    return data[:at], data[at:]


def blocks(data: bytes) -> Iterator[bytes]:
    """*data* in parts, each of which a record can hold."""
    at = 0
    while at < len(data):
        end = at + _BLOCK
        if end < len(data):
            end = data.rfind(b"\n", at, end) + 1 or end
        yield data[at:end]
        at = end


@attrs.frozen(kw_only=True)
class Record:
    """One line of a log file."""

    sequence: int
    time: float
    source: str
    data: bytes

    @property
    def last(self) -> int:
        """The number of its last entry."""
        return self.sequence + count(self.data) - 1

    def entries(self) -> Iterator[LogEntry]:
        """What it holds."""
        for number, piece in enumerate(pieces(self.data), self.sequence):
            yield LogEntry(sequence=number, time=self.time, source=self.source, data=piece)

    def encode(self) -> bytes:
        """The line."""
        try:
            data = f'"text":{json.dumps(self.data.decode(), ensure_ascii=False)}}}\n'.encode()
        except UnicodeDecodeError:
            data = b'"base64":"' + binascii.b2a_base64(self.data, newline=False) + b'"}\n'
        head = f'{{"sequence":{self.sequence},"time":{self.time:.6f},"source":{json.dumps(self.source)},'
        return head.encode() + data


#: The line after the last record of a log that nobody writes to any more.
END = b'{"end":true}\n'


def parse(line: bytes) -> Record | None:
    """The record of a line; None if it was torn, or is none."""
    try:
        words = json.loads(line)
        data = words["text"].encode() if "text" in words else binascii.a2b_base64(words["base64"])
        record = Record(sequence=int(words["sequence"]), time=float(words["time"]), source=words["source"], data=data)
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return None
    return record if _can_be(record) else None


def _can_be(record: Record) -> bool:
    """Whether we could have written it."""
    return record.sequence > 0 and math.isfinite(record.time) and isinstance(record.source, str)
