"""The daemon's apps and secrets."""

from __future__ import annotations

import attrs

from aegis_sdk.engine.exchange import Exchange
from aegis_sdk.model import AppInfo, SecretInfo


@attrs.frozen
class RemoteApps:
    """Those of the daemon's engine."""

    _daemon: Exchange

    def create(self, name: str) -> AppInfo:
        return self._daemon.ask("POST", "apps", body={"name": name}, shape=AppInfo)

    def get(self, app: str) -> AppInfo:
        return self._daemon.ask("GET", "apps", app, shape=AppInfo)

    def list(self) -> tuple[AppInfo, ...]:
        return self._daemon.ask("GET", "apps", shape=tuple[AppInfo, ...])

    def delete(self, app: str, *, workspace: bool) -> None:
        self._daemon.tell("DELETE", "apps", app, query={"workspace": workspace}, limit=None)


@attrs.frozen
class _Value:
    value: bytes


@attrs.frozen
class _Rotated:
    secrets: int


@attrs.frozen
class RemoteSecrets:
    """Those of the daemon's engine."""

    _daemon: Exchange

    def set(self, name: str, value: bytes, *, app: str | None) -> SecretInfo:
        return self._daemon.ask("PUT", *_place(app), name, body=_Value(value), shape=SecretInfo)

    def list(self, *, app: str | None) -> tuple[SecretInfo, ...]:
        return self._daemon.ask("GET", *_place(app), shape=tuple[SecretInfo, ...])

    def delete(self, name: str, *, app: str | None) -> None:
        self._daemon.tell("DELETE", *_place(app), name)

    def rotate_key(self) -> int:
        return self._daemon.ask("POST", "key", "rotate", shape=_Rotated, limit=None).secrets


def _place(app: str | None) -> tuple[str, ...]:
    return ("secrets",) if app is None else ("apps", app, "secrets")
