"""An Aegis plugin: ``tar:FILE`` is an image made of a root file system's tar, plain or compressed with gzip.

Alpine publishes such files as "mini root filesystem"; ``debootstrap`` and ``tar`` make them.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable
from pathlib import Path

import aegis_sdk as aegis


class TarImages:
    """The image source of ``tar:``."""

    name = "tar"
    remembers = False  # a file is looked at again each time: it may have changed

    def claims(self, reference: str) -> bool:
        return reference.startswith("tar:")

    def canonical(self, reference: str) -> str:
        return f"tar:{Path(reference.removeprefix('tar:')).absolute()}"

    def find(self, reference: str, *, architecture: str) -> aegis.FoundImage:
        path = Path(self.canonical(reference).removeprefix("tar:"))
        if not path.is_file():
            raise aegis.ImageNotFound(f"there is no file {path}")
        digest = _digest(path)
        return aegis.FoundImage(
            reference=f"tar:{path}",
            digest=digest,
            architecture=architecture,
            config=aegis.ImageConfig(cwd="/root"),
            layers=(aegis.TarLayer(digest=digest, size=path.stat().st_size, open=lambda: path.open("rb")),),
        )

    def check(self) -> tuple[aegis.Check, ...]:
        return ()


@aegis.hookimpl
def aegis_image_sources() -> Iterable[aegis.ImageSource]:
    return (TarImages(),)


def _digest(path: Path) -> str:
    """A layer is named by the digest of its tar, uncompressed; Aegis checks it when it reads the layer."""
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if compressed else path.open("rb") as tar:
        return f"sha256:{hashlib.file_digest(tar, 'sha256').hexdigest()}"
