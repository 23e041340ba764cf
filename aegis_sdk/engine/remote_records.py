"""The daemon's apps and secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator

import attrs

from aegis_sdk import wire
from aegis_sdk.engine.base import Report
from aegis_sdk.engine.exchange import Exchange
from aegis_sdk.engine.remote_tasks import entries
from aegis_sdk.model import AppInfo, AppSpec, InstanceInfo, LogEntry, ReleaseInfo, SandboxSpec, SecretInfo


@attrs.frozen
class RemoteApps:
    """Those of the daemon's engine."""

    _daemon: Exchange

    def create(self, name: str, spec: AppSpec) -> AppInfo:
        return self._daemon.ask("POST", "apps", body={"name": name, **wire.to_json(_here(spec))}, shape=AppInfo)

    def update(self, app: str, spec: AppSpec) -> AppInfo:
        return self._daemon.ask("PUT", "apps", app, body=_here(spec), shape=AppInfo)

    def get(self, app: str) -> AppInfo:
        return self._daemon.ask("GET", "apps", app, shape=AppInfo)

    def list(self) -> tuple[AppInfo, ...]:
        return self._daemon.ask("GET", "apps", shape=tuple[AppInfo, ...])

    def delete(self, app: str, *, workspace: bool) -> None:
        self._daemon.tell("DELETE", "apps", app, query={"workspace": workspace}, limit=None)

    def publish(self, app: str, *, label: str | None, report: Report) -> ReleaseInfo:
        return self._daemon.long("apps", app, "releases", body={"label": label}, shape=ReleaseInfo, report=report)

    def releases(self, app: str) -> tuple[ReleaseInfo, ...]:
        return self._daemon.ask("GET", "apps", app, "releases", shape=tuple[ReleaseInfo, ...])

    def serve(self, app: str, *, release: str | None, beside: bool, report: Report) -> InstanceInfo:
        body = {"release": release, "beside": beside}
        return self._daemon.long("apps", app, "serve", body=body, shape=InstanceInfo, report=report)

    def stop(self, app: str, *, release: str | None = None) -> None:
        self._daemon.tell("POST", "apps", app, "stop", body={"release": release}, limit=None)

    def wake(self, app: str, *, release: str | None = None) -> InstanceInfo:
        return self._daemon.ask("POST", "apps", app, "wake", body={"release": release}, shape=InstanceInfo, limit=None)

    def instances(self, app: str | None = None) -> tuple[InstanceInfo, ...]:
        place = ("instances",) if app is None else ("apps", app, "instances")
        return self._daemon.ask("GET", *place, shape=tuple[InstanceInfo, ...])

    def logs(
        self,
        app: str,
        *,
        release: str | None = None,
        follow: bool = False,
        since: int = 0,
        tail: int | None = None,
    ) -> Iterator[LogEntry]:
        return entries(self._daemon, "apps", app, follow=follow, since=since, tail=tail, release=release)


def _here(spec: AppSpec) -> AppSpec:
    return attrs.evolve(spec, sandbox=here(spec.sandbox))


def here(spec: SandboxSpec) -> SandboxSpec:
    """*spec* with directories that are for the daemon what they are here: below /proc/self is another one for each."""
    mounts = tuple(attrs.evolve(mount, source=os.path.realpath(mount.source)) for mount in spec.mounts)
    return attrs.evolve(spec, mounts=mounts)


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
