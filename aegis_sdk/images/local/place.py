"""References to what is on this machine: a scheme, a path, and what is meant of several things there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import attrs

from aegis_sdk.errors import ImageFailed, InvalidValue

_SHOWN = 20


@attrs.frozen
class Place:
    """An absolute path, and the *choice* of what is there (empty if none was made)."""

    scheme: str
    path: str
    choice: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}:{self.path}" + (f":{self.choice}" if self.choice else "")


def place(reference: str, *, scheme: str, exists: Callable[[str], bool]) -> Place:
    """What *reference* (``SCHEME:PATH[:CHOICE]``) means: colons may be part of the path, and the longest one wins."""
    rest = reference.removeprefix(f"{scheme}:")
    if not rest or "\0" in rest:
        raise InvalidValue(f"{reference!r} names no path", hint=f"for example: {scheme}:./path")
    for path, choice in _readings(rest):
        if exists(path):
            return Place(scheme, os.path.realpath(path), choice)
    # What is gone can still be named, for instance to be removed; an absolute path reads the same however it is cut.
    return Place(scheme, os.path.realpath(rest))


def _readings(rest: str) -> Iterator[tuple[str, str]]:
    at = len(rest)
    while at > 0:
        yield rest[:at], rest[at + 1 :]
        at = rest.rfind(":", 0, at)


def open_below(directory: int, parts: Sequence[str | bytes]) -> int:
    """A descriptor of what stands at *parts* below an open directory; OSError if one of them is a link.

    Fifos do not block. Who wants a certain kind of file has to look at what was opened.
    """
    steps = [(part, os.O_DIRECTORY) for part in parts[:-1]] + [(part, 0) for part in parts[-1:]]
    here = os.dup(directory)
    for part, how in steps:
        try:
            below = os.open(part, how | os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


@contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of the directory at *path*."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """What the system says of reading *what* becomes ImageFailed."""
    try:
        yield
    except OSError as error:
        raise ImageFailed(f"{what} cannot be read: {error.strerror}") from error


def listed(names: Iterable[str]) -> str:
    """Some of *names*, sorted, to be shown in a message whoever made them up."""
    seen = sorted(set(names))
    return ", ".join(repr(name[:200]) for name in seen[:_SHOWN]) + (", ..." if len(seen) > _SHOWN else "")
