"""Which image source a reference is for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs

from aegis_sdk.config import Config
from aegis_sdk.errors import ImageNotFound
from aegis_sdk.images import builtin
from aegis_sdk.images.base import ImageSource


@attrs.define
class Sources:
    """The sources of what is on this machine, by their schemes; for all other references, those that *load* finds.

    Which those are takes loading what is installed: it would cost the boot of a local image a tenth of a second.
    """

    _config: Config
    _load: Callable[[], Iterable[ImageSource]]
    _loaded: tuple[ImageSource, ...] | None = None  # not needed yet

    def of(self, reference: str) -> ImageSource:
        """The source that *reference* is for; ImageNotFound if it is for none."""
        scheme = reference.partition(":")[0]
        if scheme in builtin.SCHEMES and (local := builtin.local(scheme, self._config)).claims(reference):
            return local
        for source in self.others():
            if source.claims(reference):
                return source
        raise ImageNotFound(
            f"no image source claims {reference!r}",
            hint="images are called as for docker pull, or oci:DIR, docker-archive:FILE, dir:PATH, base",
        )

    def others(self) -> tuple[ImageSource, ...]:
        """The sources that claim what no scheme does, in the order in which they are asked."""
        if self._loaded is None:
            self._loaded = tuple(self._load())
        return self._loaded
