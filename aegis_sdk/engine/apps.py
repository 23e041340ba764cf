"""Apps of the engine in this process: what is on record of them; what serves them is another matter."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from aegis_sdk.artifacts import private
from aegis_sdk.engine import workspaces
from aegis_sdk.engine.base import Report
from aegis_sdk.engine.releases import LocalReleases, record_of, spec_on_record
from aegis_sdk.engine.run import guest_of
from aegis_sdk.errors import AegisError, InvalidValue, StoreFailed
from aegis_sdk.model import AppInfo, AppSpec, InstanceInfo, LogEntry, ReleaseInfo, app_name
from aegis_sdk.store.apps import AppRecord, AppRecords
from aegis_sdk.store.reader import LogReader

if TYPE_CHECKING:
    from aegis_sdk.engine.local import LocalEngine


@attrs.frozen
class LocalApps:
    """The apps on record in a home, with their releases, and their workspaces in a directory there."""

    _engine: LocalEngine
    _records: AppRecords
    _releases: LocalReleases
    _workspaces: Path

    def create(self, name: str, spec: AppSpec) -> AppInfo:
        if name.startswith(guest_of("")):
            raise InvalidValue(f"{name!r} cannot be the name of an app", hint="names that begin so are those of tasks")
        record = AppRecord(
            id=f"app_{os.urandom(6).hex()}", name=app_name(name), created=time.time(), spec=record_of(spec)
        )
        self._records.add(record)
        info = self._info(record)
        self._engine.serving.know(info)
        return info

    def update(self, app: str, spec: AppSpec) -> AppInfo:
        return self._info(self._records.update(app, record_of(spec)))

    def get(self, app: str) -> AppInfo:
        return self._info(self._records.get(app))

    def list(self) -> tuple[AppInfo, ...]:
        return tuple(map(self._info, self._records.all()))

    def names(self) -> tuple[str, ...]:
        """The names of all apps, of those too whose record cannot be read."""
        return tuple(record.name for record in self._records.all())

    def delete(self, app: str, *, workspace: bool) -> None:
        info = self.get(app)
        self._engine.serving.forget(info.id)
        try:
            if workspace:  # first: what is interrupted can be asked for again while the app is on record
                self._remove_workspace(info)
            releases = self._releases.all(info.id)
            self._records.remove(info.id)
        except BaseException:
            with suppress(AegisError):  # unless somebody else has deleted it
                self._engine.serving.know(self.get(info.id))
            raise
        self._releases.let_go(releases)

    def publish(self, app: str, *, label: str | None, report: Report) -> ReleaseInfo:
        return self._releases.publish(self.get(app), label=label, report=report)

    def releases(self, app: str) -> tuple[ReleaseInfo, ...]:
        return self._releases.all(self.get(app).id)

    def release(self, app: str, release: str | None) -> ReleaseInfo:
        """The release of an app with that label or ID, or its newest; ReleaseNotFound."""
        return self._releases.get(self.get(app), release)

    def serve(self, app: str, *, release: str | None, beside: bool, report: Report) -> InstanceInfo:
        return self._engine.serving.serve(app, release=release, beside=beside, report=report)

    def stop(self, app: str, *, release: str | None = None) -> None:
        self._engine.serving.stop(app, release=release)

    def wake(self, app: str, *, release: str | None = None) -> InstanceInfo:
        return self._engine.serving.wake(app, release=release)

    def instances(self, app: str | None = None) -> tuple[InstanceInfo, ...]:
        return self._engine.serving.instances(app)

    def logs(
        self,
        app: str,
        *,
        release: str | None = None,
        follow: bool = False,
        since: int = 0,
        tail: int | None = None,
    ) -> Iterator[LogEntry]:
        self.reader(app, release=release).close()  # what is wrong is said now, not when the first entry is asked for

        def entries() -> Iterator[LogEntry]:
            yield from self.reader(app, release=release, follow=follow, since=since, tail=tail)

        return entries()

    def reader(
        self, app: str, *, release: str | None = None, follow: bool = False, since: int = 0, tail: int | None = None
    ) -> LogReader:
        """The same, for who waits for many things at once."""
        return self._engine.serving.reader(app, release=release, follow=follow, since=since, tail=tail)

    def tidy(self) -> None:
        """Let go of images that nothing on record needs."""
        self._releases.tidy()

    def workspace(self, app: str) -> Path:
        """An app's workspace, made for this user alone if it is not there; AppNotFound."""
        path = Path(self.get(app).workspace)
        try:
            return private(path)
        except OSError as error:
            raise StoreFailed(f"the workspace {path} cannot be made: {error.strerror}") from error

    def _remove_workspace(self, info: AppInfo) -> None:
        try:
            workspaces.remove(Path(info.workspace))
        except OSError as error:
            raise StoreFailed(
                f"the workspace {info.workspace} cannot be removed: {error.strerror}",
                hint="end what uses it, or remove it by hand, and delete the app again",
            ) from error

    def _info(self, record: AppRecord) -> AppInfo:
        return AppInfo(
            id=record.id,
            name=record.name,
            created=record.created,
            workspace=str(self._workspaces / record.id),
            spec=spec_on_record(record.spec, of=f"app {record.name}"),
        )
