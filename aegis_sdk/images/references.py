"""What is known of the images in the cache: one small file for each reference, whose time of change is its last use."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from math import isfinite
from pathlib import Path

import attrs

from aegis_sdk.artifacts import private
from aegis_sdk.errors import ImageInvalid
from aegis_sdk.images import digests
from aegis_sdk.images.base import FoundImage
from aegis_sdk.model import ImageConfig, LayerInfo

_VERSION = 1
_SUFFIX = ".json"
#: How files end that are not whole yet.
PARTIAL = ".partial"
#: What comes of reading a file that holds no record.
UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, ImageInvalid)


@attrs.frozen(kw_only=True)
class Record:
    """What a reference stands for here; *pinned* is where to find the same again, *disk* the name of its disk."""

    reference: str
    pinned: str
    digest: str
    architecture: str
    config: ImageConfig
    created: str
    layers: tuple[LayerInfo, ...]
    blobs: tuple[str, ...]
    disk: str
    pulled: float

    @classmethod
    def of(cls, image: FoundImage, *, reference: str, disk: str, pulled: float) -> Record:
        """The record of *image* under the name *reference*."""
        return cls(
            reference=reference,
            pinned=image.pinned or image.reference,
            digest=image.digest,
            architecture=image.architecture,
            config=image.config,
            created=image.created,
            layers=tuple(LayerInfo(digest=layer.digest, size=layer.size) for layer in image.layers),
            blobs=image.blobs,
            disk=disk,
            pulled=pulled,
        )


@attrs.frozen
class References:
    """The records in *directory*, by their full references."""

    directory: Path

    def get(self, reference: str) -> Record | None:
        """The record of a full reference; None if there is none that can be read."""
        return _read(self._path(reference))

    def all(self) -> Iterator[Record]:
        """Every record, in the order of their references."""
        records = (_read(path) for path in self._files() if path.suffix == _SUFFIX)
        yield from sorted((record for record in records if record), key=lambda record: record.reference)

    def put(self, record: Record) -> None:
        """Keep *record*, in the place of an older one of the same reference."""
        write(self._path(record.reference), json.dumps({"version": _VERSION, **encode(record)}, indent=1))

    def remove(self, reference: str) -> None:
        """Forget a full reference; fine if it is unknown."""
        self._path(reference).unlink(missing_ok=True)

    def used(self, reference: str) -> float:
        """When the reference was used last, in seconds since 1970."""
        try:
            return self._path(reference).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def touch(self, reference: str) -> None:
        """Note that the reference is used now."""
        with suppress(OSError):  # a home that cannot be written to still boots what it holds
            os.utime(self._path(reference))

    def sweep(self) -> bool:
        """Remove what is no record and never was; whether what is left is all known.

        What another user or a later version has left here may need anything that is in the cache.
        """
        known = True
        for path in self._files():
            if path.suffix != _SUFFIX or _is_nonsense(path):
                path.unlink(missing_ok=True)
            elif not _read(path):
                known = False
        return known

    def _files(self) -> list[Path]:
        try:
            return sorted(self.directory.iterdir())
        except FileNotFoundError:
            return []

    def _path(self, reference: str) -> Path:
        return self.directory / f"{sha256(os.fsencode(reference)).hexdigest()}{_SUFFIX}"


def write(path: Path, text: str) -> None:
    """Have *text* in the file *path*, on the disk, at once."""
    handle, name = tempfile.mkstemp(dir=private(path.parent), suffix=PARTIAL)
    try:
        with os.fdopen(handle, "w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(name).rename(path)
    finally:
        Path(name).unlink(missing_ok=True)


def encode(record: Record) -> dict[str, object]:
    """*record* as what JSON holds."""
    plain = {**attrs.asdict(record, recurse=False), "config": attrs.asdict(record.config, recurse=False)}
    plain["config"]["env"] = dict(record.config.env)
    plain["layers"] = [attrs.asdict(layer) for layer in record.layers]
    return plain


def _read(path: Path) -> Record | None:
    try:
        plain = json.loads(path.read_bytes())
        return decode(plain) if plain.pop("version") == _VERSION else None
    except UNREADABLE:
        return None  # as good as none: who needs it asks its source again


def _is_nonsense(path: Path) -> bool:
    try:
        # Of this version, it would have been read.
        return json.loads(path.read_bytes()).get("version") in (None, _VERSION) and not _read(path)
    except OSError:
        return False
    except (ValueError, AttributeError):
        return True


def decode(plain: dict[str, object]) -> Record:
    """The record that was written so; one of UNREADABLE if it was none."""
    config, layers, blobs = plain.pop("config"), plain.pop("layers"), plain.pop("blobs")
    if not (isinstance(config, dict) and isinstance(layers, list) and isinstance(blobs, list)):
        raise TypeError("not a record")
    entrypoint, command = texts(config.pop("entrypoint")), texts(config.pop("command"))
    record = Record(
        **plain,  # type: ignore[arg-type]  # checked below
        config=ImageConfig(**config, entrypoint=entrypoint, command=command),
        layers=tuple(LayerInfo(**layer) for layer in layers),
        blobs=tuple(digests.valid(blob) for blob in blobs),
    )
    _check(record, config["env"])
    return record


def _check(record: Record, env: object) -> None:
    """TypeError if a value of *record*, whose environment was read as *env*, is of another type than it says."""
    if not isinstance(env, dict) or not isinstance(record.pulled, float) or not isfinite(record.pulled):
        raise TypeError("not a record")
    texts([record.reference, record.pinned, record.digest, record.architecture, record.created, record.disk])
    texts([record.config.cwd, record.config.user, *env.values(), *(layer.digest for layer in record.layers)])
    if not all(type(layer.size) is int and layer.size >= 0 for layer in record.layers):
        raise TypeError("not a record")


def texts(values: object) -> tuple[str, ...]:
    """*values*, if they are a list of texts; TypeError."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"not a list of texts: {values!r}")
    return tuple(values)
