"""Apps: what has a name, secrets and a workspace of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, Self

import attrs

from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.connect import engine_here
from aegis_sdk.model import AppInfo, SecretInfo, app_name, app_reference, secret_name, secret_value


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
    def create(cls, name: str, *, engine: Engine | None = None) -> Self:
        """A new one: *name* has up to 63 lower-case letters, digits and hyphens. NameTaken."""
        engine = engine or engine_here()
        return cls(engine.apps.create(app_name(name)), engine)

    @classmethod
    def get(cls, app: str, *, engine: Engine | None = None) -> Self:
        """The one of that name or ID; AppNotFound."""
        engine = engine or engine_here()
        return cls(engine.apps.get(app_reference(app)), engine)

    @classmethod
    def list(cls, *, engine: Engine | None = None) -> list[Self]:
        """All of them, in the order of their names."""
        engine = engine or engine_here()
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

    def delete(self, *, workspace: bool = False) -> None:
        """Forget it and its secrets; its workspace stays unless that is to go, too. AppNotFound if it has gone."""
        self.engine.apps.delete(self.id, workspace=workspace)
