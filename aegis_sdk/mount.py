"""Directories of the host that a guest sees."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

import attrs

from aegis_sdk.arguments import text
from aegis_sdk.errors import InvalidValue

MAXIMUM_MOUNTS = 4  # QEMU's microvm has 8 places for devices; disks and ports take the others
_KERNELS_PLACES = ("proc", "sys", "dev")
_FOR_EXAMPLE = 'for example: mounts=[aegis.Mount("./data", "/data")], or mounts={"/workspace": "."}'


def _absolute(path: str | os.PathLike[str]) -> str:
    if path == "":  # which would be the current directory
        raise InvalidValue("the source of a mount is empty")
    try:
        return os.path.abspath(os.fspath(path))  # noqa: PTH100  # as text, which the wire carries
    except TypeError:
        raise InvalidValue(f"the source of a mount is the path of a directory, not {path!r}") from None


@attrs.frozen
class Mount:
    """A directory of the host that a guest sees: *source* here is *target* there.

    Unless it is *read_only*, the guest can change what is in it; all that it makes there belongs to who runs this
    program. What is mounted below *source* on the host is seen too, and always read-only.
    """

    source: str = attrs.field(converter=_absolute)
    target: str
    read_only: bool = False

    def __attrs_post_init__(self) -> None:
        text("the source of a mount", self.source)
        text("the target of a mount", self.target)
        start, *names = self.target.split("/")
        if start or not names or names[0] in _KERNELS_PLACES or not {"", ".", ".."}.isdisjoint(names):
            raise InvalidValue(
                f"{self.target!r} cannot be the target of a mount",
                hint="write an absolute path such as /data, without . and .., and not in /proc, /sys or /dev",
            )
        if not isinstance(self.read_only, bool):
            raise InvalidValue(f"read_only must be True or False, not {self.read_only!r}")


Mounts = Mapping[str, str | os.PathLike[str]] | Iterable[Mount]


def in_order(mounts: Mounts) -> tuple[Mount, ...]:
    """*mounts*, checked, one in another behind it; a mapping has sources by their targets."""
    made = tuple(_each(mounts))
    if len({mount.target for mount in made}) < len(made):
        raise InvalidValue("two mounts have the same target")
    if len(made) > MAXIMUM_MOUNTS:
        raise InvalidValue(f"{len(made)} mounts are too many: a guest can have {MAXIMUM_MOUNTS}")
    return tuple(sorted(made, key=lambda mount: mount.target))  # one in another has to come after it, or is hidden


def _each(mounts: Mounts) -> Iterator[Mount]:
    if isinstance(mounts, Mapping):
        mounts = [Mount(source, target) for target, source in mounts.items()]
    for mount in mounts if isinstance(mounts, Iterable) else (mounts,):
        if not isinstance(mount, Mount):
            raise InvalidValue(f"{mount!r} is not a mount", hint=_FOR_EXAMPLE)
        yield mount
