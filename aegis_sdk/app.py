"""Apps: what has a name, secrets and a workspace of its own."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn, Self, Unpack

import attrs

from aegis_sdk.app_options import AppOptions, changed
from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.connect import engine_of_apps
from aegis_sdk.errors import InvalidValue
from aegis_sdk.image import Image, listener
from aegis_sdk.instance import Instance
from aegis_sdk.model import (
    AppInfo,
    AppSpec,
    LogEntry,
    Progress,
    ReleaseInfo,
    SecretInfo,
    app_name,
    app_reference,
    release_label,
    secret_name,
    secret_value,
)


@attrs.frozen
class AppSecrets:
    """The secrets of an app by their names: ``app.secrets["API_KEY"] = "..."``, ``del``, ``in``, and iteration.

    No value can be read back.
    """

    _app: str
    _engine: Engine = attrs.field(repr=False, eq=False)

    def __setitem__(self, name: str, value: str | bytes) -> None:
        value = secret_value(value)
        self._engine.secrets.set(secret_name(name), value, app=self._app)

    def __delitem__(self, name: str) -> None:
        self._engine.secrets.delete(secret_name(name), app=self._app)

    def __getitem__(self, name: str) -> NoReturn:
        raise TypeError(
            "no secret can be read back: its value is for the app's guests alone, as an environment variable"
        )

    def __iter__(self) -> Iterator[str]:
        return (info.name for info in self._infos())

    def __contains__(self, name: object) -> bool:
        return any(info.name == name for info in self._infos())

    def __len__(self) -> int:
        return len(self._infos())

    def _infos(self) -> tuple[SecretInfo, ...]:
        return self._engine.secrets.list(app=self._app)


@attrs.frozen
class App:
    """An app on record. Who runs for it gets its secrets, and its workspace at ``/workspace``."""

    info: AppInfo
    engine: Engine = attrs.field(repr=False, eq=False)

    @classmethod
    def create(cls, name: str, *, engine: Engine | None = None, **options: Unpack[AppOptions]) -> Self:
        """A new one: *name* has up to 63 lower-case letters, digits and hyphens. NameTaken.

        *command*, or the image's own, serves on the ports that it has to *expose*: ``8000`` for HTTP, by the router;
        ``"5432/tcp"`` for a port of this machine. It is ready when *readiness_port*, by default the first of them,
        takes a connection, which is tried each *readiness_interval* seconds (0.2), for *readiness_timeout* (30). After
        *idle* seconds (60) without a request it is paused, after *stop_after* more (1200) stopped. The rest is as for
        ``Sandbox``; its image is asked for when it is published.
        """
        name, spec = app_name(name), changed(AppSpec(), options)
        image = options.get("image")
        engine = engine or (image.engine if isinstance(image, Image) else engine_of_apps())
        return cls(engine.apps.create(name, spec), engine)

    @classmethod
    def get(cls, app: str, *, engine: Engine | None = None) -> Self:
        """The one of that name or ID; AppNotFound."""
        engine = engine or engine_of_apps()
        return cls(engine.apps.get(app_reference(app)), engine)

    @classmethod
    def list(cls, *, engine: Engine | None = None) -> builtins.list[Self]:
        """All of them, in the order of their names."""
        engine = engine or engine_of_apps()
        return [cls(info, engine) for info in engine.apps.list()]

    @property
    def id(self) -> str:
        """What it is called beside its name, and no other app ever will be."""
        return self.info.id

    @property
    def name(self) -> str:
        """Its name."""
        return self.info.name

    @property
    def workspace(self) -> Path:
        """The directory, on the machine of its engine, that its guests share and that outlives them."""
        return Path(self.info.workspace)

    @property
    def secrets(self) -> AppSecrets:
        """Its secrets, which go before those of the same name of all apps."""
        return AppSecrets(self.id, self.engine)

    def update(self, **options: Unpack[AppOptions]) -> Self:
        """Have its next release be otherwise, where *options* say so; it as it is then.

        Releases that there are, and what is served, stay.
        """
        spec = changed(self.engine.apps.get(self.id).spec, options)
        return attrs.evolve(self, info=self.engine.apps.update(self.id, spec))

    def publish(self, *, label: str | None = None, progress: Callable[[Progress], None] | None = None) -> ReleaseInfo:
        """A release of it as it is now: its image, command, ports and environment never change. NameTaken.

        *label* is a name for it that none of its other releases has. ImageNotFound and ImageFailed say why there is no
        image; *progress* hears of it, as for ``Image.pull``.
        """
        label = None if label is None else release_label(label)
        return self.engine.apps.publish(self.id, label=label, report=listener(progress))

    def releases(self) -> builtins.list[ReleaseInfo]:
        """Its releases, the newest last."""
        return [*self.engine.apps.releases(self.id)]

    def serve(
        self,
        *,
        release: str | ReleaseInfo | None = None,
        beside: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> Instance:
        """Have it served by *release*, a label or an ID, by default by its newest; it is ready when this returns.

        Requests go to what served it before until then; no one is refused. With *beside* that serves on, for routing
        policies that choose between them. ServerFailed says what was seen, ReleaseNotFound, PortTaken.
        """
        report = listener(progress)
        info = self.engine.apps.serve(self.id, release=_reference(release), beside=beside, report=report)
        return Instance(self.engine, info)

    def stop(self, *, release: str | ReleaseInfo | None = None) -> None:
        """Have it, or only one release of it, served no more; fine if it is not."""
        self.engine.apps.stop(self.id, release=_reference(release))

    def instances(self) -> builtins.list[Instance]:
        """What serves it; the first one takes requests by default."""
        return [Instance(self.engine, info) for info in self.engine.apps.instances(self.id)]

    def logs(
        self,
        *,
        release: str | ReleaseInfo | None = None,
        follow: bool = False,
        since: int = 0,
        tail: int | None = None,
    ) -> Iterator[LogEntry]:
        """What the instance of *release*, by default that which serves it now or did so last, says and has said.

        As ``Instance.logs``. NotServed if there never was one; one that was not ready in time has a log, too.
        """
        release = _reference(release)
        return self.engine.apps.logs(self.id, release=release, follow=follow, since=since, tail=tail)

    def delete(self, *, workspace: bool = False) -> None:
        """Stop it, and forget it with its releases, logs and secrets; its workspace only if that is to go, too.

        AppNotFound if it has gone.
        """
        self.engine.apps.delete(self.id, workspace=workspace)


def _reference(release: str | ReleaseInfo | None) -> str | None:
    if isinstance(release, str | None):
        return release
    if isinstance(release, ReleaseInfo):
        return release.id
    raise InvalidValue(f"a release is named by its label or its ID, not by {release!r}")
