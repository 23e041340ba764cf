"""The disk of an image: its layers fetched, merged and written as one EROFS file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import BinaryIO

import attrs

from aegis_sdk.errors import ImageFailed, ImageInvalid
from aegis_sdk.images.base import Entry, Kind, Layer
from aegis_sdk.images.erofs import ErofsWriter
from aegis_sdk.images.layers.downloads import Downloads, Meter
from aegis_sdk.images.layers.merge import Merge
from aegis_sdk.model import Progress

#: What is left free for everybody else.
RESERVE = 64 << 20
#: How much is written between two looks at the free space.
_STRIDE = 64 << 20
_HINT = "free some space, for instance with `aegis image prune`, or set AEGIS_HOME to a directory on a larger disk"


def write(out: BinaryIO, layers: Sequence[Layer], progress: Callable[[Progress], None]) -> None:
    """Write to *out*, which is empty and stays open, the disk that *layers* make, the lowest first.

    *progress* is called by one thread at a time. ImageInvalid or ImageFailed say what is wrong; whatever is raised, by
    *progress* too, no thread is left behind.
    """
    downloads = Downloads(layers, progress)
    try:
        _Room(out).check(sum(layer.size for layer in layers))
        with downloads:
            _write(out, layers, downloads)
    except OSError as error:
        if error is downloads.error:
            raise
        raise _in_words(error, out) from error


def read(layers: Sequence[Layer], progress: Callable[[Progress], None]) -> None:
    """Read *layers* to their ends, which proves that each is here and is what its digest names."""
    with Downloads(layers, progress) as downloads:
        for number, layer in enumerate(layers, 1):
            downloads.wait(number)
            which = f"layer {number} of {len(layers)}"
            with _said_of(which), closing(_watched(layer, downloads)) as entries:
                for _ in entries:
                    pass


def _watched(layer: Layer, downloads: Downloads) -> Generator[Entry, None, None]:
    for entry in layer.entries():
        downloads.check()
        yield entry


def _in_words(error: OSError, out: BinaryIO) -> ImageFailed:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ImageFailed(f"the image's disk cannot be written: {error}")
    with suppress(OSError):  # so that closing it, too, finds room for what is still in its buffer
        os.ftruncate(out.fileno(), 0)
    return ImageFailed("there is no space left for the image's disk", hint=_HINT)


@attrs.define
class _Room:
    """The space on the file system that *out* is on, if it is on any."""

    _out: BinaryIO
    _unchecked: int = 0

    def check(self, needed: int) -> None:
        """ImageFailed if *needed* bytes more would leave too little for others."""
        try:
            found = os.fstatvfs(self._out.fileno())
        except OSError:  # it is in memory
            return
        free = found.f_bavail * found.f_frsize
        if free < needed + RESERVE:
            seen = f"{free >> 20} MiB are free, and {needed + RESERVE >> 20} MiB are needed"
            raise ImageFailed(f"there is too little space for the image's disk: {seen}", hint=_HINT)

    def take(self, size: int) -> None:
        """Have *size* bytes written, with a look at the space from time to time."""
        self._unchecked += size
        if self._unchecked >= _STRIDE:
            self._unchecked = 0
            self.check(0)


@attrs.define
class _Unpacking:
    """One layer on its way to the disk, which ends when the fetch of another one fails."""

    _room: _Room
    _downloads: Downloads
    _meter: Meter
    _done: int = 0

    def entries(self, layer: Layer) -> Generator[Entry, None, None]:
        self._meter.at(0)
        for entry in layer.entries():
            self._downloads.check()
            yield attrs.evolve(entry, content=self._watched(entry.content)) if entry.kind is Kind.FILE else entry
        self._meter.end(self._done)

    def _watched(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._downloads.check()
            self._room.take(len(chunk))
            self._done += len(chunk)
            self._meter.at(self._done)
            yield chunk


def _write(out: BinaryIO, layers: Sequence[Layer], downloads: Downloads) -> None:
    writer, room = ErofsWriter(out), _Room(out)
    merge = Merge(writer.add)
    for number, layer in enumerate(layers, 1):
        downloads.wait(number)
        unpacking = _Unpacking(room, downloads, downloads.meter(number, "unpack"))
        with closing(unpacking.entries(layer)) as entries, _said_of(f"layer {number} of {len(layers)}"):
            merge.apply(entries)
    for extent in merge.dead():
        writer.discard(extent)
    try:
        writer.finish(merge.root)
    except ValueError as error:
        raise ImageInvalid(f"the image holds what no disk can: {error}") from error


@contextmanager
def _said_of(which: str) -> Iterator[None]:
    try:
        yield
    except ImageInvalid as error:
        raise ImageInvalid(f"{which}: {error.message}", hint=error.hint) from error
