"""Images that stay whatever their references come to stand for: one small file for each wish that one does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from aegis_sdk.images import references
from aegis_sdk.images.references import Record

_NAME = re.compile(r"[a-z0-9_]{1,64}")
_SUFFIX = ".json"


@attrs.frozen(kw_only=True)
class Keep:
    """A wish: *name* is unlike all others, *owner* is whose it is, and *why* says in words what needs the image."""

    name: str
    owner: str
    why: str
    record: Record


@attrs.frozen
class Keeps:
    """The wishes in *directory*."""

    directory: Path

    def put(self, keep: Keep) -> None:
        """Have *keep* on the disk."""
        said = {"owner": keep.owner, "why": keep.why, "record": references.encode(keep.record)}
        references.write(self._path(keep.name), json.dumps(said, indent=1))

    def all(self) -> Iterator[Keep]:
        """Every wish that can be read."""
        yield from filter(None, map(_read, self._files()))

    def find(self, digest: str) -> Keep | None:
        """One for the image of that *digest*."""
        return next((keep for keep in self.all() if keep.record.digest == digest), None)

    def remove(self, name: str) -> None:
        """Forget a wish; fine if it is unknown."""
        self._path(name).unlink(missing_ok=True)

    def sweep(self) -> bool:
        """Remove what was never finished; whether what is left can be read, as a later version's may not."""
        for path in self.directory.glob(f"*{references.PARTIAL}"):
            path.unlink(missing_ok=True)
        return all(map(_read, self._files()))

    def _files(self) -> list[Path]:
        return sorted(self.directory.glob(f"*{_SUFFIX}"))

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of a file")
        return self.directory / f"{name}{_SUFFIX}"


def _read(path: Path) -> Keep | None:
    try:
        said = json.loads(path.read_bytes())
        owner, why = references.texts([said["owner"], said["why"]])
        return Keep(name=path.stem, owner=owner, why=why, record=references.decode(said["record"]))
    except references.UNREADABLE:
        return None
