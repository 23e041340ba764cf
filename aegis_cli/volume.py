"""``-v SOURCE:TARGET[:ro]``: directories of this machine in a guest, in the words of `docker run`."""

from __future__ import annotations

from collections.abc import Sequence

import click

import aegis_sdk as aegis

_MODES = {"ro": True, "rw": False}


def mounts(words: Sequence[str]) -> list[aegis.Mount]:
    """What the words of all ``-v`` mean."""
    return [_mount(word) for word in words]


def _mount(word: str) -> aegis.Mount:
    path, _, mode = word.rpartition(":")
    if mode not in _MODES:
        path, mode = word, "rw"
    source, colon, target = path.rpartition(":")
    if not colon or not source or not target.startswith("/"):
        raise click.BadParameter(f"{word!r} is not SOURCE:TARGET or SOURCE:TARGET:ro", param_hint="--volume")
    return aegis.Mount(source, target, read_only=_MODES[mode])
