"""What an app can be asked to be, as users write it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import attrs

from aegis_sdk.errors import InvalidValue
from aegis_sdk.image import Image
from aegis_sdk.model import AppSpec, Network, Port
from aegis_sdk.mount import Mounts

_READINESS = "readiness_"
_GUEST = ("memory", "cpus", "disk", "processes", "writable", "mounts", "network", "driver", "pull")
_FILES = ("oci:", "docker-archive:", "dir:")


class AppOptions(TypedDict, total=False):
    """What an app can be asked to be, beside its name; times in seconds, sizes in MiB, None is never, or no limit."""

    image: str | Image
    command: Sequence[str]
    expose: Iterable[int | str | Port]
    env: Mapping[str, str]
    cwd: str | None
    user: str | None
    readiness_port: int | None
    readiness_timeout: float
    readiness_interval: float
    idle: float | None
    stop_after: float | None
    memory: int
    cpus: int
    disk: int | None
    processes: int | None
    writable: bool
    mounts: Mounts
    network: str | Network
    driver: str | None
    pull: str


def changed(spec: AppSpec, options: AppOptions) -> AppSpec:
    """*spec* with what *options* say, and all else as it was; InvalidValue."""
    given: dict[str, Any] = dict(options)
    _check_names(given)
    guest = {name: given.pop(name) for name in _GUEST if name in given}
    if "image" in given:
        guest |= _image(given.pop("image"))
    ready = {name.removeprefix(_READINESS): given.pop(name) for name in list(given) if name.startswith(_READINESS)}
    for name, wanted in (("command", "words"), ("expose", "ports")):
        if name in given:
            given[name] = _several(name, given[name], wanted)
    if not isinstance(given.get("env", {}), Mapping):
        raise InvalidValue(f"env must map names to values, not {given['env']!r}")
    sandbox, readiness = attrs.evolve(spec.sandbox, **guest), attrs.evolve(spec.readiness, **ready)
    return attrs.evolve(spec, sandbox=sandbox, readiness=readiness, **given)


def _check_names(given: Mapping[str, Any]) -> None:
    known = list(AppOptions.__annotations__)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise TypeError(f"an app has no {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def _image(image: str | Image) -> dict[str, str | None]:
    if isinstance(image, Image):
        return {"image": image.reference, "digest": image.info.digest}
    if isinstance(image, str) and image.startswith(_FILES):  # who publishes it may be elsewhere
        scheme, _, path = image.partition(":")
        image = f"{scheme}:{os.path.abspath(path)}"  # noqa: PTH100  # a tag or a digest may stand behind the path
    return {"image": image, "digest": None}


def _several(name: str, value: object, wanted: str) -> tuple[Any, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidValue(f"{name} must be a list of {wanted}, not {value!r}")
    return tuple(value)
