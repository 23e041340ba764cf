"""What requests say, and what answers are, beyond the SDK's own values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from aegis_sdk.errors import InvalidValue
from aegis_sdk.model import AppSpec, Ending, Network, SandboxSpec, TaskSpec
from aegis_sdk.model.image import PULL_POLICIES
from aegis_sdk.model.network import MODES
from aegis_sdk.model.port import PROTOCOLS

_DAY = 86400
_YEARS = 100 * 365 * _DAY
_MOST = 1 << 53  # what every reader of JSON can count to


def limited(least: float, most: float, **options: Any) -> Any:
    """A field that is a number within these bounds, or None where its type says so; OpenAPI says it, too."""

    def check(_: object, __: object, value: float | None) -> None:
        if value is not None and not least <= value <= most:
            raise InvalidValue(f"must be from {least} to {most}, not {value}")

    return attrs.field(validator=check, metadata={"schema": {"minimum": least, "maximum": most}}, **options)


def _one_of(*words: str, **options: Any) -> Any:
    def check(_: object, __: object, value: str) -> None:
        if value not in words:
            raise InvalidValue(f"must be one of {', '.join(words)}")

    return attrs.field(validator=check, metadata={"schema": {"enum": list(words)}}, **options)


@attrs.frozen(kw_only=True)
class NewSandbox(SandboxSpec):
    """What a new sandbox is to be, and the lease that it is to end with: only one that is kept needs none."""

    lease: str | None = None

    @property
    def spec(self) -> SandboxSpec:
        """It without the lease."""
        return SandboxSpec(**_same(self, SandboxSpec))


@attrs.frozen(kw_only=True)
class NewTask(TaskSpec):
    """What a new task is to be; *app_id* is another name of *app*, and an attached one needs a lease to end with."""

    app_id: str | None = None
    lease: str | None = None

    @property
    def spec(self) -> TaskSpec:
        """It without the lease."""
        if self.app_id is not None and self.app is not None:
            raise InvalidValue("app and app_id are the same: give one of them")
        return TaskSpec(**{**_same(self, TaskSpec), "app": self.app_id if self.app is None else self.app})


def _same(value: Any, shape: type[Any]) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in attrs.fields(shape)}


@attrs.frozen(kw_only=True)
class NewNetwork(Network):
    """What a sandbox may reach from here on; its mode is to be said, so that nothing said by mistake opens anything."""

    mode: str = _one_of(*MODES)

    @property
    def network(self) -> Network:
        """It as the SDK has it."""
        return Network(**_same(self, Network))


@attrs.frozen(kw_only=True)
class Stop:
    """How long what is to end may take for it, in seconds."""

    grace: float = limited(0, 3600, default=5.0)


@attrs.frozen(kw_only=True)
class Wait:
    """How many seconds to wait at most."""

    timeout: float = limited(0, _DAY, default=0.0)


@attrs.frozen(kw_only=True)
class Logs:
    """Which entries of a log: those after number *since*, the last *tail* of these; with *follow* also what comes."""

    follow: bool = False
    since: int = limited(0, _MOST, default=0)
    tail: int | None = limited(0, _MOST, default=None)


@attrs.frozen(kw_only=True)
class NewCommand:
    """A command to be run in a sandbox; it is ended after *timeout* seconds. Without one, the image's own."""

    command: tuple[str, ...] = ()
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    cwd: str | None = None
    user: str | None = None
    timeout: float | None = limited(0, _YEARS, default=None)
    input: bytes = attrs.field(default=b"", repr=False)


@attrs.frozen(kw_only=True)
class Stdout:
    """A piece of a command's standard output."""

    stdout: bytes


@attrs.frozen(kw_only=True)
class Stderr:
    """A piece of its standard error."""

    stderr: bytes


@attrs.frozen(kw_only=True)
class Ended:
    """How a command ended."""

    exit_code: int
    signal: str | None
    timed_out: bool
    out_of_memory: bool
    out_of_processes: bool


@attrs.frozen(kw_only=True)
class Exited:
    """The last line of a command that came to its end."""

    exit: Ended


@attrs.frozen(kw_only=True)
class Ends:
    """How a sandbox ended, None if it has not, or is unknown."""

    ending: Ending | None


@attrs.frozen(kw_only=True)
class OnePort:
    """A port of a guest that is exposed."""

    number: int = limited(1, 65_535)
    protocol: str = _one_of(*PROTOCOLS, default="http")


@attrs.frozen(kw_only=True)
class Address:
    """Where a port of a guest is reached: a URL, or an address of this machine and a port."""

    address: str


@attrs.frozen(kw_only=True)
class Console:
    """The end of what a guest's console has said."""

    text: str


@attrs.frozen(kw_only=True)
class Pull:
    """An image to be had, and when to ask its source."""

    reference: str
    pull: str = _one_of(*PULL_POLICIES, default="always")


@attrs.frozen(kw_only=True)
class Import:
    """An image of this machine, to be kept under *name*."""

    reference: str
    name: str
    replace: bool = False


@attrs.frozen(kw_only=True)
class OneImage:
    """An image of the cache."""

    reference: str


@attrs.frozen(kw_only=True)
class ExactImage:
    """An image of the cache, if it is just that one."""

    reference: str
    digest: str


@attrs.frozen(kw_only=True)
class Prune:
    """Which images are to go with what no image needs: those *unused* now, or for *older_than* seconds."""

    older_than: float | None = limited(0, _YEARS, default=None)
    unused: bool = False


@attrs.frozen(kw_only=True)
class NewApp(AppSpec):
    """A new app: its name, and what its first release is to be."""

    name: str

    @property
    def spec(self) -> AppSpec:
        """It without the name."""
        return AppSpec(**_same(self, AppSpec))


@attrs.frozen(kw_only=True)
class Publish:
    """What the new release is to be called, by those who do not want its ID."""

    label: str | None = None


@attrs.frozen(kw_only=True)
class Release:
    """One of an app's releases, by label or ID, in the place of the one that is meant by default."""

    release: str | None = None


@attrs.frozen(kw_only=True)
class Serve(Release):
    """Which release is to serve, by default the newest; and whether *beside* those that do, or in their place."""

    beside: bool = False


@attrs.frozen(kw_only=True)
class LogsOfRelease(Logs):
    """Which entries of a log: of the instance of *release*, a label or an ID, or of the one meant by default."""

    release: str | None = None


@attrs.frozen(kw_only=True)
class Delete:
    """Whether an app's workspace goes with it."""

    workspace: bool = False


@attrs.frozen(kw_only=True)
class NewSecret:
    """The value of a secret."""

    value: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Rotated:
    """How many secrets have a new key."""

    secrets: int


@attrs.frozen(kw_only=True)
class End:
    """Whether the next daemon is to start again the kept sandboxes that run now."""

    keep: bool = False
