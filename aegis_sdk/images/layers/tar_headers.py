"""The headers of a tar: ustar, pax and GNU, as POSIX.1-2017 (pax, Interchange Format) and GNU tar's manual have them.

Only `tarfile` knows more of old tars, but it is no reader for hostile ones: it takes a broken header for the end of the
archive, calls itself for each header that extends another, follows negative sizes, and does each of these differently
from one Python to the next (CVE-2024-6232, CVE-2025-8194).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping

import attrs

from aegis_sdk.errors import ImageInvalid

BLOCK = 512
ZEROS = bytes(BLOCK)
#: The most that the headers which extend one entry may have, all of them together, in bytes: names end at 4 KiB and
#: extended attributes at 64 KiB each, what is beyond is no entry but an attack.
EXTENSION_MAX = 1 << 20

_CHECKSUM = slice(148, 156)
_UNSIGNED, _SIGNED = struct.Struct("148B8x356B"), struct.Struct("148b8x356b")
_GNU_MAGIC = b"ustar  \0"
_RECORD = re.compile(rb"(\d{1,7}) ([^=\n]+)=")
_WHOLE = re.compile(rb"-?\d{1,20}")
_DECIMAL = re.compile(rb"(-?)(\d{1,20})(?:\.(\d*))?")

Records = list[tuple[bytes, bytes]]


@attrs.frozen
class Block:
    """One header block, whose checksum is right."""

    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Block:
        """The header in *raw*, or ImageInvalid."""
        digits, spaces = text(raw[_CHECKSUM]).strip(b" "), 8 * ord(" ")
        said = int(digits or b"0", 8) if not digits.strip(b"01234567") else -1
        # Some old tars took the sum of signed bytes.
        if said not in (spaces + sum(_UNSIGNED.unpack(raw)), spaces + sum(_SIGNED.unpack(raw))):
            raise ImageInvalid("it is no tar, or a broken one: a header's checksum is wrong")
        return cls(raw)

    @property
    def type(self) -> bytes:
        return self.raw[156:157]

    @property
    def size(self) -> int:
        return whole(_number(self.raw[124:136], "size"), "size")

    @property
    def name(self) -> bytes:
        name, prefix = text(self.raw[:100]), text(self.raw[345:500])
        # GNU's own format keeps times and sparse maps where ustar has the prefix.
        return prefix + b"/" + name if prefix and self.raw[257:265] != _GNU_MAGIC else name

    @property
    def link(self) -> bytes:
        return text(self.raw[157:257])

    def field(self, name: str) -> int:
        """The number in the field *name*."""
        return _number(self.raw[_FIELDS[name]], name)


_FIELDS = {
    "mode": slice(100, 108),
    "uid": slice(108, 116),
    "gid": slice(116, 124),
    "mtime": slice(136, 148),
    "devmajor": slice(329, 337),
    "devminor": slice(337, 345),
    "realsize": slice(483, 495),
}


def text(field: bytes) -> bytes:
    """What a field holds before its first NUL."""
    return field.partition(b"\0")[0]


def _number(field: bytes, name: str) -> int:
    if field[0] in (0x80, 0xFF):  # base 256, the first byte a sign
        value = int.from_bytes(field[1:], "big")
        return value if field[0] == 0x80 else value - (1 << 8 * (len(field) - 1))
    digits = text(field).strip(b" ")
    if digits.strip(b"01234567"):
        raise ImageInvalid(f"its tar is broken: {name} is {field!r}")
    return int(digits or b"0", 8)


def whole(value: int, name: str) -> int:
    """*value* if it can be a size or a place in a file; else ImageInvalid."""
    if not 0 <= value < 1 << 63:
        raise ImageInvalid(f"its tar is broken: {name} is {value}")
    return value


def records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keywords and values of a pax header, in their order."""
    at = 0
    while at < len(data):
        head = _RECORD.match(data, at)
        end = at + int(head[1]) if head else 0
        if not head or not head.end() < end <= len(data) or data[end - 1] != ord("\n"):
            raise ImageInvalid("its tar is broken: a pax header is no list of keywords and values")
        yield head[2], data[head.end() : end - 1]
        at = end


def number(pax: Mapping[bytes, bytes], name: str, block: Block) -> int:
    """The number that *pax* or else *block* has for *name*."""
    value = pax.get(name.encode())
    if not value:
        return block.field(name)
    return parse(value, name)


def parse(value: bytes, name: str) -> int:
    """The number that *value* spells, or ImageInvalid."""
    if not _WHOLE.fullmatch(value):
        raise ImageInvalid(f"its tar is broken: {name} is {value[:40]!r}")
    return int(value)


def mtime_ns(pax: Mapping[bytes, bytes], block: Block) -> int:
    """When the entry was changed last, in nanoseconds."""
    value = pax.get(b"mtime")
    if not value:
        return block.field("mtime") * 10**9
    parts = _DECIMAL.fullmatch(value)
    if not parts:
        raise ImageInvalid(f"its tar is broken: mtime is {value[:40]!r}")
    fraction = (parts[3] or b"")[:9].ljust(9, b"0")
    return int(parts[1] + parts[2] + fraction)


def sparse_map(block: Block, more: bytes) -> list[tuple[int, int]]:
    """Places and lengths of the data in a sparse file of GNU's old format; *more* are its further blocks of them."""
    fields = block.raw[386:482] + b"".join(more[at : at + 504] for at in range(0, len(more), BLOCK))
    pairs = (fields[at : at + 24] for at in range(0, len(fields), 24))
    return [(_number(p[:12], "offset"), _number(p[12:], "numbytes")) for p in pairs if p[12:13] != b"\0"]


def pax_sparse_map(pax: Mapping[bytes, bytes], all_records: Records) -> list[tuple[int, int]] | None:
    """The same in a pax header of GNU's formats 0.0 and 0.1; None if there is none."""
    if b"GNU.sparse.map" in pax:
        return pairs(pax[b"GNU.sparse.map"].split(b","))
    if b"GNU.sparse.size" not in pax:
        return None
    keys = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
    return pairs([value for key, value in all_records if key in keys])


def pairs(words: list[bytes]) -> list[tuple[int, int]]:
    """Places and lengths, as *words* spell them in turn."""
    numbers = [parse(word, "a sparse map") for word in words if word]
    if len(numbers) % 2:
        raise ImageInvalid("its tar is broken: a sparse map has an odd number of numbers")
    return list(zip(numbers[::2], numbers[1::2], strict=True))
