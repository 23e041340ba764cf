"""Images in registries: the source of every reference that is no one else's."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from aegis_sdk.images.base import FoundImage
from aegis_sdk.images.registry.reference import parse
from aegis_sdk.model import Check

# The rest is imported late: a guest whose image is here already starts without it.
if TYPE_CHECKING:
    from aegis_sdk.images.layers.tar import TarLayer
    from aegis_sdk.images.manifest import Descriptor
    from aegis_sdk.images.registry.blobs import Blobs
    from aegis_sdk.images.registry.distribution import Repository
    from aegis_sdk.images.registry.transport import Patience

_OTHERS = ("oci:", "docker-archive:", "dir:")


@attrs.frozen
class RegistrySource:
    """The image source of all registries; layers are kept in the directory *blobs*.

    *environ* says where proxies, certificates and credentials are. *plain_http* are registries, each ``HOST`` or
    ``HOST:PORT``, that are spoken to in the clear.
    """

    blobs: Path
    environ: Mapping[str, str] = attrs.field(kw_only=True, repr=False)
    plain_http: frozenset[str] = attrs.field(kw_only=True, default=frozenset())
    patience: Patience | None = attrs.field(kw_only=True, default=None)  # None: its own default, not imported for it

    name = "registry"
    remembers = True

    def claims(self, reference: str) -> bool:
        # Also what is misspelled, or a path: only here it is said what is wrong with it.
        return reference != "base" and not reference.startswith(_OTHERS)

    def canonical(self, reference: str) -> str:
        return str(parse(reference))

    def find(self, reference: str, *, architecture: str) -> FoundImage:
        from aegis_sdk.images import manifest

        repository = self._repository(reference)
        name = str(repository.reference)
        with repository.session() as session:
            found = manifest.find(name, session.manifest(), session.document, architecture=architecture)
        layers = zip(found.manifest.layers, found.diff_ids, strict=True)
        return FoundImage(
            reference=name,
            digest=found.digest,
            architecture=found.architecture,
            config=found.config,
            layers=tuple(self._layer(repository, descriptor, diff_id) for descriptor, diff_id in layers),
            created=found.created,
            pinned=str(repository.reference.at(found.digest)),
            blobs=tuple(descriptor.digest for descriptor in found.manifest.layers),
        )

    def check(self) -> tuple[Check, ...]:
        from aegis_sdk.images.registry.credentials import faults, files

        if wrong := "; ".join(faults(self.environ)):
            fix = "mend or remove what is named, and log in again with docker login"
            return (Check(name="registries", ok=False, seen=wrong, fix=fix, required=False),)
        present = [str(path) for path in files(self.environ) if os.path.lexists(path)]
        return (Check(name="registries", ok=True, seen=f"credentials: {', '.join(present) or 'none'}", required=False),)

    def _repository(self, reference: str) -> Repository:
        from aegis_sdk.images.registry.distribution import repository
        from aegis_sdk.images.registry.transport import Patience

        return repository(
            parse(reference),
            environ=self.environ,
            plain_http=self.plain_http,
            patience=self.patience or Patience(),
        )

    def _layer(self, repository: Repository, descriptor: Descriptor, diff_id: str) -> TarLayer:
        from aegis_sdk.images.layers.tar import TarLayer
        from aegis_sdk.images.registry.blobs import Blobs

        blobs, digest, size = Blobs(self.blobs), descriptor.digest, descriptor.size
        return TarLayer(
            digest=diff_id,
            size=size,
            open=partial(blobs.open, digest),
            fetch=lambda report: _fetch(blobs, repository, digest, size, report),
        )


def _fetch(blobs: Blobs, repository: Repository, digest: str, size: int, report: Callable[[int], None]) -> None:
    present = 0

    def note(count: int) -> None:
        nonlocal present
        present = count
        report(count)

    def pieces(start: int) -> Generator[tuple[int, bytes], None, None]:
        # While nothing comes, the same is reported again: whoever has lost patience can say so then, too.
        with repository.session(tick=lambda: report(present)) as session:
            yield from session.blob(digest, size=size, start=start)

    blobs.get(digest, size=size, pieces=pieces, report=note)
