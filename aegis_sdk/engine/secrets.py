"""Secrets of the engine in this process."""

from __future__ import annotations

import time

import attrs

from aegis_sdk.model import SecretInfo, secret_name, secret_value
from aegis_sdk.store.secrets import SecretRecords


@attrs.frozen
class LocalSecrets:
    """The secrets on record in a home."""

    records: SecretRecords

    def set(self, name: str, value: bytes, *, app: str | None) -> SecretInfo:
        value = secret_value(value)
        return self.records.set(secret_name(name), value, app=app, now=time.time())

    def list(self, *, app: str | None) -> tuple[SecretInfo, ...]:
        return self.records.all(app=app)

    def delete(self, name: str, *, app: str | None) -> None:
        self.records.delete(secret_name(name), app=app)

    def rotate_key(self) -> int:
        return self.records.rotate_key()

    def environment(self, app: str | None) -> dict[str, str]:
        """What the secrets of *app*, and under them those of all apps, put into a guest's environment.

        Nothing for who names no app. AppNotFound; SecretUnreadable names the secret, and says what to do.
        """
        if app is None:
            return {}
        return {name: value.decode() for name, value in self.records.values(app).items()}
