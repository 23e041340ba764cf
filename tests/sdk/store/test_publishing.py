"""Publishing that is cut short: what is on record has its image, and nothing else is kept."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import pytest

import aegis_sdk as aegis
from aegis_sdk.engine.local import LocalEngine
from aegis_sdk.errors import StoreFailed
from tests.sdk.store.homes import change, engine_at, in_a_child, killed_at, sound


@pytest.fixture
def app(local: LocalEngine) -> aegis.App:
    """An app that can be published."""
    return aegis.App.create("web", command=["true"], expose=[8000], engine=local)


def kept(home: Path) -> set[str]:
    return {path.stem for path in (home / "data" / "images" / "kept").glob("*.json")}


@pytest.mark.timeout(60)
def test_publishing_that_is_killed(app, local, empty):
    """Killed at whichever line of the records, it leaves a release with its image, or nothing that a prune leaves."""
    app.publish(label="v0")
    step = 1
    while (code := in_a_child(partial(killed_at, step, app.publish))) != 0:
        assert code == -signal.SIGKILL
        known = {release.id for release in app.releases()}
        assert known <= kept(empty)
        aegis.Image.prune(engine=local)
        assert kept(empty) == known
        step += 2
    assert step > 20
    assert len(app.releases()) == len(kept(empty)) > 1
    assert sound(empty)


def test_deleting_that_is_killed(app, local, empty):
    """An app that is gone has no image any more after the next prune, also if it could not be let go at once."""
    app.publish()
    local.apps._records.remove(app.id)
    assert kept(empty)
    assert aegis.Image.prune(unused=True, engine=local).images == ("base",)
    assert kept(empty) == set()
    assert not any((empty / "data" / "images" / "disks").iterdir())


def test_records_that_cannot_be_read(app, local, empty):
    """While nobody knows what is on record, a prune lets nothing go; a record of a later Aegis is told in words."""
    (release,) = [app.publish()]
    change(empty, "UPDATE apps SET spec = ?", '{"later": 1}')
    with pytest.raises(StoreFailed, match="the record of app web cannot be read"):
        aegis.App.get("web", engine=local)
    (empty / "data" / "aegis.db").write_bytes(b"x" * 9999)
    assert aegis.Image.prune(unused=True, engine=local).images == ()
    assert kept(empty) == {release.id}


def test_homes_that_share_their_images(app, local, empty, tmp_path):
    """A prune of one home lets nothing go that is another's."""
    release = app.publish()
    other = tmp_path / "other"
    (other / "data").mkdir(parents=True)
    (other / "data" / "images").symlink_to(empty / "data" / "images")
    second = engine_at(other)
    aegis.App.create("web", command=["true"], expose=[8000], engine=second).publish()
    assert aegis.Image.prune(unused=True, engine=second).images == ()
    assert len(kept(empty)) == 2
    aegis.App.get("web", engine=second).delete()
    assert kept(empty) == {release.id}
