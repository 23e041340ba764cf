"""The disks made of images: one directory each, named by the layers, shared by every image that has the same ones.

A directory holds the disk, and beside it its size, time of change and SHA-256, by which damage is noticed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import BinaryIO

import attrs

from aegis_sdk.artifacts import Artifacts
from aegis_sdk.errors import ImageInUse, ImageInvalid
from aegis_sdk.images.base import Layer

#: To be raised when the same layers come to be written as other bytes.
FORMAT = 1
_DISK = "disk.erofs"
_ABOUT = "about.json"
_NAME = re.compile(r"[0-9a-f]{64}", re.ASCII)


def name_of(layers: Sequence[Layer]) -> str:
    """The name of the disk that *layers* make: 64 hex digits, the same for the same layers."""
    said = "\n".join([f"aegis disk {FORMAT}", *(layer.digest for layer in layers)])
    return hashlib.sha256(said.encode()).hexdigest()


@attrs.frozen
class Disk:
    """A disk in use: no process removes its file before it is closed."""

    path: Path
    _descriptor: int = attrs.field(repr=False)

    def close(self) -> None:
        os.close(self._descriptor)

    def is_sound(self) -> bool:
        """Whether it still has its name, and its bytes are as they were made."""
        seen, about = os.fstat(self._descriptor), _about(self.path.with_name(_ABOUT))
        if not seen.st_nlink or seen.st_size != about.get("size"):
            return False
        if seen.st_mtime_ns == about.get("mtime_ns"):
            return True
        # Somebody wrote to it, or copied the home elsewhere: its bytes tell.
        return self.matches(about)

    def matches(self, about: Mapping[str, object]) -> bool:
        """Whether its bytes are what *about* says, which takes reading them all."""
        with self.path.open("rb") as file:
            return _digest(file) == about.get("sha256")


@attrs.frozen
class Disks:
    """The disks in *directory*, by the names that ``name_of`` gives their layers."""

    directory: Path

    def open(self, name: str) -> Disk | None:
        """The disk *name*, to be closed; None if it is not there, or not as it was made."""
        disk = _hold(self._home(name) / _DISK)
        if disk and not disk.is_sound():
            disk.close()
            return None
        return disk

    def make(self, name: str, write: Callable[[BinaryIO], None]) -> Disk:
        """The disk *name*, to be closed, written by *write* if need be; of several who want it at once, one does."""
        home = self._home(name)
        while True:
            if disk := self.open(name):
                return disk
            with Artifacts(home).locked():
                self._discard_damaged(name)
            Artifacts(home).get(_DISK, lambda out: _write(out, write, home / _ABOUT))

    def verify(self, name: str) -> bool:
        """Whether the disk's bytes are what was written, which takes reading them all; if not, it is discarded."""
        disk = self.open(name)
        if disk is None:
            return False
        with closing(disk):
            sound = disk.matches(_about(disk.path.with_name(_ABOUT)))
        if not sound:
            with Artifacts(self._home(name)).locked():
                disk.path.unlink(missing_ok=True)
        return sound

    def remove(self, name: str) -> int:
        """Remove the disk; the bytes that this frees. ImageInUse if a sandbox uses it."""
        home = self._home(name)
        if not home.exists():
            return 0
        freed = self.size(name)
        with Artifacts(home).locked():
            _unlink_unused(home / _DISK)
            for path in home.iterdir():
                path.unlink()
            home.rmdir()
        return freed

    def in_use(self, name: str) -> bool:
        """Whether a sandbox uses the disk."""
        try:
            with (self._home(name) / _DISK).open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def names(self) -> Iterator[str]:
        """The names of all disks, and of those that a killed process left unfinished."""
        yield from sorted(path.name for path in self.directory.glob("*") if _NAME.fullmatch(path.name))

    def size(self, name: str) -> int:
        """How many bytes the disk takes on the host; 0 if it is not there."""
        try:
            return (self._home(name) / _DISK).stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    def _home(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ImageInvalid(f"{name[:200]!r} cannot be the name of a disk")
        return self.directory / name

    def _discard_damaged(self, name: str) -> None:
        if disk := self.open(name):  # somebody else has made it meanwhile
            disk.close()
        else:  # guests that use the damaged one keep what they have
            (self._home(name) / _DISK).unlink(missing_ok=True)


def _hold(path: Path) -> Disk | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    # flock, not the record locks that QEMU takes: those vanish when anything here closes the same file.
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return Disk(path, descriptor)


def _write(out: BinaryIO, write: Callable[[BinaryIO], None], about: Path) -> None:
    write(out)
    out.flush()
    digest = _digest(out)
    seen = os.fstat(out.fileno())
    # Before the disk itself gets its name: a disk without this is not sound.
    about.unlink(missing_ok=True)
    about.write_text(json.dumps({"size": seen.st_size, "mtime_ns": seen.st_mtime_ns, "sha256": digest}))


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    hashed = hashlib.sha256()
    while piece := file.read(1 << 20):
        hashed.update(piece)
    return hashed.hexdigest()


def _about(path: Path) -> dict[str, object]:
    with suppress(OSError, ValueError):
        about = json.loads(path.read_bytes())
        if isinstance(about, dict):
            return about
    return {}


def _unlink_unused(path: Path) -> None:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except FileNotFoundError:
        return
    except BlockingIOError as error:
        raise ImageInUse("a running sandbox uses the image", hint="close the sandbox first") from error
