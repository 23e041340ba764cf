"""One blob, and sources that give it."""

from __future__ import annotations

import errno
from collections.abc import Generator

from aegis_sdk.images import digests
from aegis_sdk.images.registry.blobs import Blobs, Pieces

DATA = bytes(range(256)) * 40
DIGEST = digests.of(DATA)
Stream = Generator[tuple[int, bytes], None, None]
NAME = DIGEST.replace(":", "-")


class Source:
    """Gives *data* in pieces of 1000 bytes and remembers from where it was asked."""

    def __init__(self, data: bytes = DATA, *, fail_after: int | None = None) -> None:
        self.data = data
        self.fail_after = fail_after
        self.starts: list[int] = []

    def __call__(self, start: int) -> Stream:
        self.starts.append(start)
        for at in range(start, len(self.data), 1000):
            if self.fail_after is not None and at - start >= self.fail_after:
                raise ConnectionResetError(errno.ECONNRESET, "cut")
            yield at, self.data[at : at + 1000]


class Cancelled(Exception):
    """What a caller raises to give up."""


def get(blobs: Blobs, source: Pieces, report=lambda _count: None, size: int = len(DATA), digest: str = DIGEST) -> None:
    blobs.get(digest, size=size, pieces=source, report=report)


def read(blobs: Blobs) -> bytes:
    with blobs.open(DIGEST) as file:
        return file.read()
