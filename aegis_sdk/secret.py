"""Secrets: named values that a guest gets as environment variables, and that nobody can read back."""

from __future__ import annotations

from typing import Self

import attrs

from aegis_sdk.engine.base import Engine
from aegis_sdk.engine.connect import engine_here
from aegis_sdk.errors import SecretNotFound
from aegis_sdk.model import SecretInfo, app_reference, secret_name, secret_value


@attrs.frozen
class Secret:
    """A secret on record, without its value: that is for guests alone, those of its app, or, if it has none, of all."""

    info: SecretInfo
    engine: Engine = attrs.field(repr=False, eq=False)

    @classmethod
    def set(cls, name: str, value: str | bytes, *, app: str | None = None, engine: Engine | None = None) -> Self:
        """Keep *value*, encrypted, for the guests of *app*, a name or an ID, or of all apps, in place of an older one.

        Who boots from then on gets it. A value is UTF-8 text without NUL characters, of 64 KiB at most: InvalidValue,
        which does not show it. AppNotFound; StoreFailed if the key file is not to be used.
        """
        value = secret_value(value)
        engine = engine or engine_here()
        return cls(engine.secrets.set(secret_name(name), value, app=_scope(app)), engine)

    @classmethod
    def list(cls, *, app: str | None = None, engine: Engine | None = None) -> list[Self]:
        """The secrets of *app*, or those of all apps, in the order of their names. AppNotFound."""
        engine = engine or engine_here()
        return [cls(info, engine) for info in engine.secrets.list(app=_scope(app))]

    @classmethod
    def get(cls, name: str, *, app: str | None = None, engine: Engine | None = None) -> Self:
        """The secret of that name, of *app* or of all apps; SecretNotFound, AppNotFound."""
        for found in cls.list(app=app, engine=engine):
            if found.name == name:
                return found
        raise SecretNotFound(f"there is no secret {secret_name(name)} of {'all apps' if app is None else f'app {app}'}")

    @staticmethod
    def rotate_key(*, engine: Engine | None = None) -> int:
        """Encrypt every secret with a new key, and forget the old one; how many there are.

        SecretUnreadable if one cannot be decrypted, and nothing has changed then.
        """
        return (engine or engine_here()).secrets.rotate_key()

    @property
    def name(self) -> str:
        """The name of the environment variable."""
        return self.info.name

    @property
    def app(self) -> str | None:
        """The ID of its app; None if it is of all apps."""
        return self.info.app

    def delete(self) -> None:
        """Forget it; SecretNotFound if somebody else has. Who runs and has it keeps it."""
        self.engine.secrets.delete(self.name, app=self.app)


def _scope(app: str | None) -> str | None:
    return None if app is None else app_reference(app)
