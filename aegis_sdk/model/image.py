"""What an image is, and what is heard and said of it."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from aegis_sdk.arguments import text
from aegis_sdk.errors import InvalidValue
from aegis_sdk.model.fixed import Fixed

PULL_POLICIES = ("always", "missing", "never")


def image_reference(reference: str) -> str:
    """*reference*, if it can be one to an image."""
    if not isinstance(reference, str) or not reference:
        raise InvalidValue(f"a reference to an image is text such as 'alpine:3.20', not {reference!r}")
    text("a reference to an image", reference)
    return reference


def pull_policy(word: str) -> str:
    """*word*, if it says when to ask an image's source: ``always``, if it is ``missing`` here, or ``never``."""
    if word not in PULL_POLICIES:
        raise InvalidValue(f"pull must be one of {', '.join(PULL_POLICIES)}, not {word!r}")
    return word


@attrs.frozen(kw_only=True)
class ImageConfig:
    """What an image says about the commands that run in it: defaults, which callers override."""

    env: Mapping[str, str] = attrs.field(factory=dict, converter=Fixed)
    cwd: str = ""
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Progress:
    """How far one layer of an image is: *step* is ``fetch`` or ``unpack``; *done* and *total* are bytes.

    *total* is None while nobody knows it: what a layer unpacks to is known when it is unpacked. *number* counts the
    image's layers from 1 to *layers*; *layer* is its digest.
    """

    layer: str
    number: int
    layers: int
    step: str
    done: int
    total: int | None


@attrs.frozen(kw_only=True)
class LayerInfo:
    """One layer of an image: a name for what it holds, and how many bytes its source stores for it."""

    digest: str
    size: int


@attrs.frozen(kw_only=True)
class ImageInfo:
    """An image in the cache.

    *pulled* and *used* are times in seconds since 1970; *disk_bytes* is what its disk takes, *layer_bytes* what its
    layers take beside it. Images may share both.
    """

    reference: str
    digest: str
    architecture: str
    config: ImageConfig = attrs.field(repr=False)
    created: str
    layers: tuple[LayerInfo, ...] = attrs.field(repr=False)
    pulled: float
    used: float
    disk_bytes: int
    layer_bytes: int


@attrs.frozen(kw_only=True)
class Pruned:
    """What a pruning removed: images by their references, and how many bytes of disk that freed."""

    images: tuple[str, ...]
    bytes: int
