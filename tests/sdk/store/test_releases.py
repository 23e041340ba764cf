"""Releases on record, and the instances that serve them."""

from __future__ import annotations

from pathlib import Path

import pytest

import aegis_sdk as aegis
from aegis_sdk.store.apps import AppRecord, AppRecords
from aegis_sdk.store.database import Database
from aegis_sdk.store.instances import InstanceRecords
from aegis_sdk.store.releases import ReleaseRecord, ReleaseRecords
from tests.sdk.store.homes import change, sound

WEB, API = "app_000000000001", "app_000000000002"


@pytest.fixture
def records(empty: Path) -> Database:
    """A database with two apps."""
    database = Database(empty / "data" / "aegis.db")
    for app, name in ((WEB, "web"), (API, "api")):
        AppRecords(database).add(AppRecord(id=app, name=name, created=1.5, spec="{}"))
    return database


@pytest.fixture
def releases(records: Database) -> ReleaseRecords:
    """Its releases."""
    return ReleaseRecords(records)


@pytest.fixture
def instances(records: Database) -> InstanceRecords:
    """Its instances."""
    return InstanceRecords(records)


def published(releases: ReleaseRecords, id: str, *, app: str = WEB, label: str | None = None) -> ReleaseRecord:
    return releases.add(ReleaseRecord(id=id, app=app, label=label, created=1.5, spec="{}"))


def test_releases_are_numbered_and_named(releases):
    """Each app counts its own; labels are unique among an app's, and not having one is no label."""
    first, _, other = (
        published(releases, "r1", label="v1"),
        published(releases, "r2"),
        published(releases, "r3", app=API),
    )
    published(releases, "r4", app=API, label="v1")
    assert [release.number for release in releases.all(WEB)] == [1, 2]
    assert other.number == 1
    assert releases.get(WEB, "v1") == releases.get(WEB, "r1") == first
    with pytest.raises(aegis.NameTaken, match="a release 'v1' already"):
        published(releases, "r5", label="v1")
    for missing in ("v2", "r4", ""):
        with pytest.raises(aegis.ReleaseNotFound):
            releases.get(WEB, missing)
    with pytest.raises(aegis.AppNotFound):
        published(releases, "r6", app="app_gone")
    assert releases.ids() == {"r1", "r2", "r3", "r4"}


def test_a_release_never_changes(releases, empty):
    """Not even who writes to the database can change one without knowing what he does."""
    made = published(releases, "r1", label="v1")
    with pytest.raises(Exception, match="a release never changes"):
        change(empty, "UPDATE releases SET spec = ?", "{}")
    assert releases.all(WEB) == (made,)


def test_what_serves(releases, instances):
    """A release has one instance for ever; an app is served by those that were named last, in that order."""
    for release in ("r1", "r2", "r3"):
        published(releases, release)
    published(releases, "r4", app=API)
    one, two, three = (instances.add_or_get(WEB, f"r{number}") for number in (1, 2, 3))
    other = instances.add_or_get(API, "r4")
    assert instances.add_or_get(WEB, "r1") == one
    assert instances.last(WEB) is None
    instances.serve(API, [other.id])
    for served in ([one, two], [two, one], [three], []):
        instances.serve(WEB, [instance.id for instance in served])
        found = [(record.id, record.place) for record in instances.served() if record.app == WEB]
        assert found == [(record.id, place) for place, record in enumerate(served)]
        assert (last := instances.last(WEB))
        assert last.id == (served or [three])[0].id
    assert [record.id for record in instances.served()] == [other.id]
    assert [record.id for record in instances.of(WEB)] == [one.id, two.id, three.id]
    with pytest.raises(aegis.ReleaseNotFound):
        instances.add_or_get(WEB, "r4")


def test_ports_are_remembered(instances):
    """A port of this machine leads to one port of one app, until that is given another."""
    assert instances.local_port(WEB, 5432) is None
    assert instances.remember(WEB, 5432, 40_001)
    assert instances.remember(WEB, 5432, 40_001)
    assert not instances.remember(API, 5432, 40_001)
    assert not instances.remember("app_gone", 5432, 40_003)
    assert instances.remember(WEB, 5432, 40_002)
    assert instances.remember(API, 5432, 40_001)
    assert (instances.local_port(WEB, 5432), instances.local_port(API, 5432)) == (40_002, 40_001)


def test_all_goes_with_the_app(records, releases, instances, empty):
    """Who forgets an app forgets its releases, instances and ports."""
    published(releases, "r1")
    instances.serve(WEB, [instances.add_or_get(WEB, "r1").id])
    instances.remember(WEB, 5432, 40_001)
    AppRecords(records).remove(WEB)
    assert (releases.all(WEB), instances.of(WEB), instances.served()) == ((), (), ())
    assert instances.local_port(WEB, 5432) is None
    assert sound(empty)
