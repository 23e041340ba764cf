"""Digests as the OCI image specification (descriptor.md, Digests) writes them: an algorithm and its value in hex."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from aegis_sdk.errors import ImageInvalid

if TYPE_CHECKING:
    from hashlib import _Hash

_FORM = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", re.ASCII)


def valid(digest: object) -> str:
    """*digest* if it is one, and so safe in a path or a URL; else ImageInvalid."""
    if not isinstance(digest, str) or not _FORM.fullmatch(digest):
        raise ImageInvalid(f"{str(digest)[:200]!r} is no digest: sha256: or sha512: and lower-case hex digits")
    return digest


def of(data: bytes) -> str:
    """The SHA-256 digest of *data*."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def hasher(digest: str) -> _Hash:
    """An empty hash of the algorithm of a valid *digest*."""
    return hashlib.new(digest.partition(":")[0])


def check(data: bytes, digest: str, what: str) -> bytes:
    """*data* if its digest is *digest*; else ImageInvalid, which calls it *what*."""
    hashed = hasher(digest)
    hashed.update(data)
    if hashed.hexdigest() != digest.partition(":")[2]:
        raise ImageInvalid(f"{what} is not what its digest {digest} names")
    return data
