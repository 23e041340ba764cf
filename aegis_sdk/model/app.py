"""Apps and their releases."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

import attrs

from aegis_sdk.arguments import text, whole
from aegis_sdk.errors import InvalidValue
from aegis_sdk.model.command import Command
from aegis_sdk.model.fixed import Fixed
from aegis_sdk.model.image import ImageConfig
from aegis_sdk.model.port import Port, exposed
from aegis_sdk.model.sandbox import SandboxSpec
from aegis_sdk.mount import MAXIMUM_MOUNTS

_LONGEST_LABEL = 128
_LONGEST_READINESS = 3600.0
_LONGEST = 1 << 20
_ID = re.compile(r"rel_[0-9a-f]{12}")


def seconds(name: str, value: float | None) -> None:
    """InvalidValue unless *value* is a finite number of seconds, more than 0, or None for never."""
    if value is None:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 < value <= sys.float_info.max:
        raise InvalidValue(f"{name} must be seconds, more than 0, or None for never; not {value!r}")


def release_label(label: str) -> str:
    """*label*, if a release can be called that."""
    text("a release's label", label)
    usual = label.isprintable() and label == label.strip() and not _ID.fullmatch(label)
    if not label or len(label) > _LONGEST_LABEL or not usual:
        raise InvalidValue(
            f"{label!r} cannot be the label of a release", hint="use a short word, such as v1 or 2026-05"
        )
    return label


@attrs.frozen(kw_only=True)
class Readiness:
    """When a server counts as ready: as soon as *port* takes a connection, which is tried every *interval* seconds.

    It has failed if that has not happened after *timeout* seconds. *port* is the first exposed one if that is None.
    """

    port: int | None = None
    interval: float = 0.2
    timeout: float = 30.0

    def __attrs_post_init__(self) -> None:
        if self.port is not None:
            whole("the readiness port", self.port, at_least=1, at_most=65_535)
        for name, value in (("interval", self.interval), ("timeout", self.timeout)):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 < value <= _LONGEST_READINESS:
                most = f"{_LONGEST_READINESS:g} seconds"
                raise InvalidValue(f"the readiness {name} must be more than 0, and at most {most}; not {value!r}")


@attrs.frozen(kw_only=True)
class AppSpec:
    """What an app is to be: *command* (without one, the image's own) in guests made as *sandbox* says.

    *expose* are its ports, the first HTTP one of which is meant by a request that names none. After *idle* seconds
    without a connection and without activity in it a guest is paused, after *stop_after* more it is stopped; None for
    never. Its secrets are environment variables, too, which *env* overrides.
    """

    command: tuple[str, ...] = ()
    sandbox: SandboxSpec = attrs.field(factory=SandboxSpec)
    env: Mapping[str, str] = attrs.field(factory=dict, converter=Fixed, repr=False)
    cwd: str | None = None
    user: str | None = None
    expose: tuple[Port, ...] = attrs.field(default=(), converter=exposed)
    readiness: Readiness = attrs.field(factory=Readiness)
    idle: float | None = 60.0
    stop_after: float | None = 1200.0

    def __attrs_post_init__(self) -> None:
        seconds("idle", self.idle)
        seconds("stop_after", self.stop_after)
        if self.sandbox.name is not None or self.sandbox.keep:
            raise InvalidValue("an app's guest has no name of its own, and is never kept by itself")
        if any(mount.target == "/workspace" for mount in self.sandbox.mounts):
            raise InvalidValue("/workspace of an app's guest is the app's own workspace; mount elsewhere")
        if len(self.sandbox.mounts) >= MAXIMUM_MOUNTS:
            raise InvalidValue(
                f"an app's guest has a workspace, and so can have {MAXIMUM_MOUNTS - 1} other mounts at most"
            )
        command = self.of(ImageConfig(command=("true",)))
        if (size := sum(map(len, (*command.argv, *command.env, *command.env.values())))) > _LONGEST:
            raise InvalidValue(
                f"arguments and environment have {size} characters, and no guest takes more than {_LONGEST}"
            )

    @property
    def readiness_port(self) -> int | None:
        """The port whose first connection means that the server is ready; None if it has no ports at all."""
        return self.readiness.port or (self.expose[0].number if self.expose else None)

    def of(self, image: ImageConfig, *, secrets: Mapping[str, str] | None = None) -> Command:
        """The command in an image with these defaults, and with *secrets* in its environment."""
        env = {**(secrets or {}), **self.env}
        return Command.of(image, self.command, env=env, cwd=self.cwd, user=self.user, stdin=False, tty=None)


@attrs.frozen(kw_only=True)
class AppInfo:
    """An app; *created* in seconds since 1970, *workspace* the directory of the host that outlives its guests.

    *spec* is what its next release will be.
    """

    id: str
    name: str
    created: float
    workspace: str
    spec: AppSpec = attrs.field(factory=AppSpec, repr=False)


@attrs.frozen(kw_only=True)
class ReleaseInfo:
    """What was published of *app*, an ID, and never changes; *number* counts the app's releases from 1.

    *spec* names its image by digest, and its command, whatever the image's tag stands for by now.
    """

    id: str
    app: str
    number: int
    label: str | None
    created: float
    spec: AppSpec = attrs.field(repr=False)

    @property
    def name(self) -> str:
        """Its label, or, if it has none, its ID."""
        return self.label or self.id
