"""What a plugin can provide: implement any of these, marked with ``aegis_sdk.hookimpl``.

A plugin is a module, or an object, named by an entry point of the group ``aegis``. docs/plugins.md tells how.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pluggy

from aegis_sdk.images.base import ImageSource

hookspec = pluggy.HookspecMarker("aegis")
hookimpl = pluggy.HookimplMarker("aegis")


@hookspec
def aegis_image_sources(home: Path) -> Iterable[ImageSource]:  # type: ignore[empty-body]  # it says what, not how
    """Image sources, asked in this order which references they claim; *home* is where Aegis keeps its things.

    ``base``, ``oci:``, ``docker-archive:`` and ``dir:`` are asked before any plugin's sources, the registry after all.
    """
