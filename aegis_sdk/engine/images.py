"""Images of the engine in this process: what its cache holds, and what is kept there for releases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager

import attrs

from aegis_sdk.config import Config
from aegis_sdk.engine.base import Report
from aegis_sdk.errors import AegisError, ImageFailed
from aegis_sdk.images.cache import ImageCache, OpenImage
from aegis_sdk.model import ImageInfo, Pruned, SandboxSpec


@attrs.frozen
class LocalImages:
    """Those of a home, which has no others: where the system lets it keep none, ImageFailed says so."""

    _cache: ImageCache
    _config: Config

    @contextmanager
    def opened(self, spec: SandboxSpec, report: Report) -> Iterator[OpenImage]:
        """The image that *spec* asks for; its disk stays where it is while the block lasts."""
        with self.in_words(), closing(self.open(spec, report)) as image:
            yield image

    def open(self, spec: SandboxSpec, report: Report) -> OpenImage:
        """The same, to be closed, and with the system's own errors."""
        if spec.digest:
            return self._cache.open_kept(spec.image, digest=spec.digest)
        return self._cache.open(spec.image, pull=spec.pull, report=report)

    def pull(self, reference: str, *, pull: str, report: Report) -> ImageInfo:
        with self.opened(SandboxSpec(image=reference, pull=pull), report) as image:
            return self._cache.info(image.record)

    def import_(self, reference: str, *, name: str, replace: bool, report: Report) -> ImageInfo:
        with (
            self.in_words(),
            closing(self._cache.import_image(reference, name=name, replace=replace, report=report)) as image,
        ):
            return self._cache.info(image.record)

    def get(self, reference: str) -> ImageInfo:
        with self.in_words():
            return self._cache.get(reference)

    def all(self) -> tuple[ImageInfo, ...]:
        with self.in_words():
            return self._cache.all()

    def remove(self, reference: str, *, digest: str) -> None:
        with self.in_words():
            self._cache.remove(reference, digest=digest)

    def prune(self, *, older_than: float | None, unused: bool) -> Pruned:
        with self.in_words():
            return self._cache.prune(older_than=older_than, unused=unused)

    def keep(self, image: OpenImage, release: str, *, why: str) -> None:
        """Have an open image stay for a release, by its ID; *why* says in words what needs it."""
        self._cache.keep(image, release, owner=self._home, why=why)

    def kept(self) -> set[str]:
        """The IDs of releases of this home for which images are kept, but for those just being published."""
        with self.in_words():
            return self._cache.kept_by(self._home)

    def let_go(self, releases: Iterable[str]) -> None:
        """Keep images for these no more."""
        with self.in_words():
            self._cache.let_go(releases)

    @property
    def _home(self) -> str:
        return str(self._config.home)

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Have what the system refuses in the block be an ImageFailed."""
        try:
            yield
        except AegisError:
            raise
        except OSError as error:
            seen = f"images cannot be kept in {self._config.images}: {error.strerror or error}"
            hint = "free some space, or set AEGIS_HOME to a directory that this user may write to"
            raise ImageFailed(seen, hint=hint) from error
