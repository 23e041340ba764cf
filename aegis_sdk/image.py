"""An image in the cache, from which any number of sandboxes boot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import attrs

from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.connect import engine_here
from aegis_sdk.errors import InvalidValue
from aegis_sdk.model import ImageInfo, Progress, Pruned, pull_policy


@attrs.frozen
class Image:
    """An image in the cache; ``Sandbox`` takes it, or its reference, all the same."""

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
        return cls(engine.pull_image(_word(reference), pull=pull_policy(policy), report=progress or _unheard), engine)

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
        info = engine.import_image(_word(source), name=_word(name), replace=replace, report=progress or _unheard)
        return cls(info, engine)

    @classmethod
    def get(cls, reference: str, *, engine: Engine | None = None) -> Self:
        """The image of the cache that *reference* means; ImageNotFound if it is not there."""
        engine = engine or engine_here()
        return cls(engine.image(_word(reference)), engine)

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
        if older_than is not None and not older_than >= 0:
            raise InvalidValue(f"older_than must be a number of seconds, not {older_than!r}")
        return (engine or engine_here()).prune_images(older_than=older_than, unused=unused)

    @property
    def reference(self) -> str:
        """Its full reference."""
        return self.info.reference

    def remove(self) -> None:
        """Remove it from the cache, with what no other image needs; ImageInUse if a sandbox uses it."""
        self.engine.remove_image(self.reference)


def _word(reference: str) -> str:
    if not isinstance(reference, str) or not reference:
        raise InvalidValue(f"a reference to an image is text such as 'alpine:3.20', not {reference!r}")
    return reference


def _unheard(_: Progress) -> None:
    """Take what nobody has asked for."""
