"""An image in the cache, from which any number of sandboxes boot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import attrs

from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.connect import engine_here
from aegis_sdk.errors import InvalidValue
from aegis_sdk.model import ImageInfo, Progress, Pruned, image_reference, pull_policy


@attrs.frozen
class Image:
    """An image in the cache. ``Sandbox`` takes it, and boots just that one, whatever its name means by then."""

    info: ImageInfo
    engine: Engine = attrs.field(repr=False, eq=False)

    @classmethod
    def pull(
        cls,
        reference: str,
        *,
        policy: str = "always",
        progress: Callable[[Progress], None] | None = None,
        engine: Engine | None = None,
    ) -> Self:
        """Fetch what is not here yet of the image that *reference* means now, and give it back ready to boot.

        With *policy* ``missing`` an image that is here is taken as it is, with ``never`` no other is. *progress* is
        called from several threads, one call at a time. ImageNotFound, ImageInvalid and RegistryFailed say what is
        wrong; what was fetched before that is kept for the next pull.
        """
        engine = engine or engine_here()
        return cls(
            engine.pull_image(image_reference(reference), pull=pull_policy(policy), report=listener(progress)), engine
        )

    @classmethod
    def import_from(
        cls,
        source: str,
        *,
        name: str,
        replace: bool = False,
        progress: Callable[[Progress], None] | None = None,
        engine: Engine | None = None,
    ) -> Self:
        """Keep the image of *source* (``docker-archive:FILE``, ``oci:DIR``, ``dir:PATH``) under *name*.

        InvalidValue if there is an image of that name already and it is not to be replaced.
        """
        engine = engine or engine_here()
        source, name, report = image_reference(source), image_reference(name), listener(progress)
        info = engine.import_image(source, name=name, replace=replace, report=report)
        return cls(info, engine)

    @classmethod
    def get(cls, reference: str, *, engine: Engine | None = None) -> Self:
        """The image of the cache that *reference* means; ImageNotFound if it is not there."""
        engine = engine or engine_here()
        return cls(engine.image(image_reference(reference)), engine)

    @classmethod
    def list(cls, *, engine: Engine | None = None) -> list[Self]:
        """Every image of the cache, in the order of their references."""
        engine = engine or engine_here()
        return [cls(info, engine) for info in engine.images()]

    @staticmethod
    def prune(*, older_than: float | None = None, unused: bool = False, engine: Engine | None = None) -> Pruned:
        """Remove what replaced images and broken-off pulls have left, and give back what that was.

        Also, with *unused*, every image that no sandbox uses, and with *older_than* those not used for that many
        seconds.
        """
        if older_than is not None and (type(older_than) not in (int, float) or not older_than >= 0):
            raise InvalidValue(f"older_than must be a number of seconds, not {older_than!r}")
        return (engine or engine_here()).prune_images(older_than=older_than, unused=unused)

    @property
    def reference(self) -> str:
        """Its full reference."""
        return self.info.reference

    def _repr_html_(self) -> str:
        from aegis_sdk import display

        return display.of_image(self.info)

    def remove(self) -> None:
        """Remove it from the cache, with what no other image needs; ImageInUse if a sandbox uses it.

        ImageNotFound if it is not there any more, also because its name means another image by now.
        """
        self.engine.remove_image(self.reference, digest=self.info.digest)


def listener(progress: Callable[[Progress], None] | None) -> Callable[[Progress], None]:
    """*progress*, or something that does not listen; InvalidValue if it is nothing to be called."""
    if progress is not None and not callable(progress):
        raise InvalidValue(f"progress must be something to be called, not {progress!r}")
    return progress or _unheard


def _unheard(_: Progress) -> None:
    """Take what nobody has asked for."""
