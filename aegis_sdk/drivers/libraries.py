"""Shared libraries: where the system's loader, Homebrew and Python's packages have them."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path

#: The package of the wheel smolmachines, which brings libkrun and libkrunfw.
CARRIER = "smol"
#: How a library of macOS begins: mach-o/loader.h, MH_MAGIC_64.
MACH_O = b"\xcf\xfa\xed\xfe"
_WHEEL = "smolmachines"
_LOADER_CACHE = Path("/etc/ld.so.cache")


def named(*names: str) -> Iterator[Path]:
    """Every readable library that has one of *names*, the ones that come first, first."""
    for path in _candidates(names):
        if os.access(path, os.R_OK) and path.is_file():
            yield path


def carrier_version() -> str:
    """Which wheel it is that brings libraries."""
    from importlib import metadata

    try:
        return f"of {_WHEEL} {metadata.version(_WHEEL)}"
    except metadata.PackageNotFoundError:
        return f"of {_WHEEL}"


def _candidates(names: tuple[str, ...]) -> Iterator[Path]:
    places = ("/opt/homebrew/lib", "/usr/local/lib", "/usr/local/lib64", *_system())
    yield from (Path(place, name) for place in places for name in names)
    yield from _known_to_the_loader(names)
    # find_spec looks the package up without running any of it.
    carrier = importlib.util.find_spec(CARRIER)
    for place in (carrier and carrier.submodule_search_locations) or ():
        yield from (Path(place, name) for name in names)


def _system() -> tuple[str, ...]:
    return (f"/usr/lib/{os.uname().machine}-linux-gnu", "/usr/lib64", "/usr/lib")


def _known_to_the_loader(names: tuple[str, ...]) -> Iterator[Path]:
    try:
        cache = _LOADER_CACHE.read_bytes()
    except OSError:
        return  # there is none but glibc's
    for name in names:
        # The cache's paths are strings that each end with a NUL; nothing else of its format is needed.
        for found in re.finditer(rb"\0(/[^\0]*/%s)\0" % re.escape(name.encode()), cache):
            yield Path(os.fsdecode(found[1]))
