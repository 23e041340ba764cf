"""Apps of the engine in this process."""

from __future__ import annotations

import os
import time
from pathlib import Path

import attrs

from aegis_sdk.artifacts import private
from aegis_sdk.engine import workspaces
from aegis_sdk.errors import StoreFailed
from aegis_sdk.model import AppInfo, app_name
from aegis_sdk.store.apps import AppRecords


@attrs.frozen
class LocalApps:
    """The apps on record in a home, and their workspaces there."""

    records: AppRecords

    def create(self, name: str) -> AppInfo:
        return self.records.add(f"app_{os.urandom(6).hex()}", app_name(name), created=time.time())

    def get(self, app: str) -> AppInfo:
        return self.records.get(app)

    def list(self) -> tuple[AppInfo, ...]:
        return self.records.all()

    def delete(self, app: str, *, workspace: bool) -> None:
        info = self.get(app)
        if workspace:  # first: what is interrupted can be asked for again while the app is on record
            try:
                workspaces.remove(Path(info.workspace))
            except OSError as error:
                raise StoreFailed(
                    f"the workspace {info.workspace} cannot be removed: {error.strerror}",
                    hint="end what uses it, or remove it by hand, and delete the app again",
                ) from error
        self.records.remove(info.id)

    def workspace(self, app: str) -> Path:
        """An app's workspace, made for this user alone if it is not there; AppNotFound."""
        path = Path(self.get(app).workspace)
        try:
            return private(path)
        except OSError as error:
            raise StoreFailed(f"the workspace {path} cannot be made: {error.strerror}") from error
