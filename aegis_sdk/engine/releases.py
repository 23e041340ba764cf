"""Releases: an app's spec, frozen with the image that it means, which stays as long as the release does."""

from __future__ import annotations

import os
import time

import attrs

from aegis_sdk import wire
from aegis_sdk.engine.base import Report
from aegis_sdk.engine.images import LocalImages
from aegis_sdk.errors import InvalidValue, NameTaken, ReleaseNotFound, StoreFailed
from aegis_sdk.images.cache import OpenImage
from aegis_sdk.model import AppInfo, AppSpec, ReleaseInfo, release_label
from aegis_sdk.store.releases import ReleaseRecord, ReleaseRecords


@attrs.frozen
class LocalReleases:
    """Those of the apps of one home."""

    _images: LocalImages
    _records: ReleaseRecords

    def publish(self, app: AppInfo, *, label: str | None, report: Report) -> ReleaseInfo:
        """The next release of *app*; its image is kept before it is on record."""
        self._check_label(app, label)
        if app.spec.readiness_port is None:
            raise InvalidValue(
                f"the app {app.name} exposes no port, so nobody could reach it",
                hint=f"aegis app update {app.name} --expose 8000",
            )
        identity = f"rel_{os.urandom(6).hex()}"
        with self._images.opened(app.spec.sandbox, report) as image:
            spec = _frozen(app, image)
            self._images.keep(image, identity, why=f"release {label or identity} of app {app.name}")
            record = ReleaseRecord(id=identity, app=app.id, label=label, created=time.time(), spec=record_of(spec))
            try:
                return _info(self._records.add(record))
            except BaseException:
                self._images.let_go((identity,))
                raise

    def all(self, app: str) -> tuple[ReleaseInfo, ...]:
        """Those of an app, by its ID, the newest last."""
        return tuple(map(_info, self._records.all(app)))

    def get(self, app: AppInfo, release: str | None) -> ReleaseInfo:
        """The one of that label or ID, or the newest; ReleaseNotFound."""
        if release is not None:
            return _info(self._records.get(app.id, release))
        if known := self._records.all(app.id):
            return _info(known[-1])
        raise ReleaseNotFound(f"the app {app.name} has no release yet", hint=f"aegis app publish {app.name}")

    def let_go(self, releases: tuple[ReleaseInfo, ...]) -> None:
        """Let go of the images of releases that are on record no more."""
        self._images.let_go(release.id for release in releases)

    def tidy(self) -> None:
        """Let go of images that are kept for what is not on record: who was to put it there, or take it off, died."""
        if kept := self._images.kept():
            self._images.let_go(kept - self._records.ids())

    def _check_label(self, app: AppInfo, label: str | None) -> None:
        """Have a pull that takes long not be for nothing."""
        if label is None:
            return
        release_label(label)
        if any(release.label == label for release in self._records.all(app.id)):
            raise NameTaken(
                f"the app has a release {label!r} already", hint="a release never changes: choose another label"
            )


def _frozen(app: AppInfo, image: OpenImage) -> AppSpec:
    record = image.record
    command = app.spec.command or record.config.entrypoint + record.config.command
    if not command:
        raise InvalidValue(
            f"the app {app.name} has no command, and its image {app.spec.sandbox.image} has none of its own",
            hint=f"aegis app update {app.name} -- COMMAND",
        )
    sandbox = attrs.evolve(app.spec.sandbox, image=record.reference, digest=record.digest, pull="missing")
    return attrs.evolve(app.spec, command=command, sandbox=sandbox)


def _info(record: ReleaseRecord) -> ReleaseInfo:
    spec = spec_on_record(record.spec, of=f"release {record.label or record.id}")
    return ReleaseInfo(
        id=record.id, app=record.app, number=record.number, label=record.label, created=record.created, spec=spec
    )


def record_of(spec: AppSpec) -> str:
    """What a record holds of *spec*; InvalidValue if nobody could read it again, nor then any list of apps."""
    written = wire.dumps(spec).decode()
    wire.loads(written, AppSpec)
    return written


def spec_on_record(text: str, *, of: str) -> AppSpec:
    """The spec that a record holds; StoreFailed if this Aegis cannot read it."""
    try:
        return wire.loads(text, AppSpec)
    except InvalidValue as error:
        raise StoreFailed(
            f"the record of {of} cannot be read: {error.message}", hint="use the Aegis that wrote it, or a newer one"
        ) from error
