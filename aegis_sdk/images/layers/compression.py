"""The bytes of a layer as they were before they were compressed, with gzip, zstd or not at all."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator

from aegis_sdk.errors import ImageInvalid

#: What is read at once. Not more: each end of a gzip member copies the rest of it.
CHUNK = 64 << 10
#: The most that comes out at once, however well it was compressed.
PIECE = 512 << 10
#: In how many members or frames a layer may be compressed. Each costs some ten microseconds, whatever it holds: empty
#: ones of 8 bytes would be half an hour for a gibibyte. Layers that can be read lazily have one or two for each of
#: their files, others one for some megabytes.
PARTS_MAX = 1_000_000

_GZIP = b"\x1f\x8b"
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL)  # a frame, or one to be skipped
_REFUSED = {"bzip2": re.compile(rb"BZh[1-9]1AY&SY"), "xz": re.compile(rb"\xfd7zXZ\0")}

Read = Callable[[int], bytes]


def decompressed(read: Read) -> Iterator[bytes]:
    """What the bytes that *read* gives stand for; their kind is told by the first of them.

    *read* is a file's: as many bytes as are asked for, or fewer, and none at the end.
    """
    first = _first(read)
    for name, magic in _REFUSED.items():
        if magic.match(first):
            raise ImageInvalid(f"it is compressed with {name}, which no image may be: only gzip and zstd")
    if first.startswith(_GZIP):
        yield from _gunzip(first, read)
    elif _ZSTD.match(first):
        yield from _unzstd(first, read)
    else:
        yield from _plain(first, read)


def _first(read: Read) -> bytes:
    first = read(CHUNK)
    while len(first) < 16 and (more := read(CHUNK)):
        first += more
    return first


def _plain(data: bytes, read: Read) -> Iterator[bytes]:
    while data:
        yield data
        data = read(CHUNK)


def _gunzip(data: bytes, read: Read) -> Iterator[bytes]:
    import zlib

    parts = 0
    try:
        while data:
            parts = _next(parts, "gzip")
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                if piece := member.decompress(data or _more(read, "gzip"), PIECE):
                    yield piece
                data = member.unconsumed_tail
            # Tapes and block devices pad with zeros, and every gzip ignores them.
            data = member.unused_data.lstrip(b"\0")
            while not data and (more := read(CHUNK)):
                data = more.lstrip(b"\0")
    except zlib.error as error:
        raise ImageInvalid(f"its gzip data is broken: {error}") from error


def _unzstd(data: bytes, read: Read) -> Iterator[bytes]:
    if sys.version_info >= (3, 14):
        from compression.zstd import ZstdDecompressor, ZstdError
    else:
        from backports.zstd import ZstdDecompressor, ZstdError

    parts = 0
    try:
        while data:
            parts = _next(parts, "zstd")
            frame = ZstdDecompressor()
            while not frame.eof:
                if piece := frame.decompress(data or (_more(read, "zstd") if frame.needs_input else b""), PIECE):
                    yield piece
                data = b""
            data = frame.unused_data or read(CHUNK)
    except ZstdError as error:
        raise ImageInvalid(f"its zstd data is broken or needs too large a window: {error}") from error


def _next(parts: int, kind: str) -> int:
    if parts == PARTS_MAX:
        raise ImageInvalid(f"its {kind} data is in more than {PARTS_MAX:,} parts")
    return parts + 1


def _more(read: Read, kind: str) -> bytes:
    data = read(CHUNK)
    if not data:
        raise ImageInvalid(f"its {kind} data ends in the middle")
    return data
