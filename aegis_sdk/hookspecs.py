"""What a plugin can provide: implement any of these, marked with ``aegis_sdk.hookimpl``.

A plugin is a module, or an object, named by an entry point of the group ``aegis``. docs/plugins.md tells how.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pluggy

from aegis_sdk.images.base import ImageSource
from aegis_sdk.routing.base import RoutingPolicy

hookspec = pluggy.HookspecMarker("aegis")
hookimpl = pluggy.HookimplMarker("aegis")


@hookspec
def aegis_image_sources(home: Path) -> Iterable[ImageSource]:  # type: ignore[empty-body]  # it says what, not how
    """Image sources, asked in this order which references they claim; *home* is where Aegis keeps its things.

    ``base``, ``oci:``, ``docker-archive:`` and ``dir:`` are asked before any plugin's sources, the registry after all.
    """


@hookspec
def aegis_routing_policies(home: Path) -> Iterable[RoutingPolicy]:  # type: ignore[empty-body]  # it says what, not how
    """Routing policies, each of which may change where the ones before it send a request; *home* is as above.

    The built-in rule is the first.
    """
