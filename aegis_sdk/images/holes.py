"""Holes: parts of a file that are zeros and take no space."""

from __future__ import annotations

from typing import BinaryIO

_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h
_PIECE = 1 << 20


def punch(out: BinaryIO, start: int, length: int) -> None:
    """Make *length* bytes of *out* zeros, without their space where the system can do that; moves its position."""
    out.flush()
    if not _fallocate(out, start, length):
        out.seek(start)
        out.writelines(bytes(min(_PIECE, length - at)) for at in range(0, length, _PIECE))


def _fallocate(out: BinaryIO, start: int, length: int) -> bool:
    import ctypes

    try:
        fallocate = ctypes.CDLL(None).fallocate
        fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        return bool(fallocate(out.fileno(), _PUNCH_HOLE | _KEEP_SIZE, start, length) == 0)
    except (AttributeError, OSError):  # a system without the call, or something in memory
        return False
