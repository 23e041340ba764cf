"""Apps and their workspaces, and the faces of apps and secrets."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import aegis_sdk as aegis
from tests.sdk.image_blobs import unprivileged
from tests.sdk.store.homes import engine_at


def test_an_app_has_a_name_and_an_id(engine, empty):
    """An app is found by its name and by its ID, and lists in the order of names."""
    web = aegis.App.create("web", engine=engine)
    assert aegis.App.get("web", engine=engine) == aegis.App.get(web.id, engine=engine) == web
    assert (web.name, web.workspace) == ("web", empty / "data" / "workspaces" / web.id)
    api = aegis.App.create("api", engine=engine)
    assert aegis.App.list(engine=engine) == [api, web]
    assert api.id != web.id


def test_a_name_is_one_apps_alone(engine):
    """A second app of a name is refused, until the first is deleted; then it is another app."""
    first = aegis.App.create("web", engine=engine)
    with pytest.raises(aegis.NameTaken, match="web"):
        aegis.App.create("web", engine=engine)
    first.delete()
    assert aegis.App.create("web", engine=engine).id != first.id
    with pytest.raises(aegis.AppNotFound):
        first.delete()


@pytest.mark.parametrize(
    "name", ["", "Web", "-a", "a-", "a_b", "a.b", "a/b", "..", "a" * 64, "ä", "a\n", "a\0", None, 1]
)
def test_names_that_cannot_be(engine, name):
    """A name is a label of a host name."""
    with pytest.raises(aegis.InvalidValue, match="cannot be a name"):
        aegis.App.create(name, engine=engine)


@pytest.mark.parametrize(
    "name", ["", "none", "app_000000000000", "../web", "' OR 1=1", "\udcff", "a\0", "x" * 10**6, None]
)
def test_apps_that_are_not_there(engine, name):
    """What is no app's name or ID is no app, and the error is short, whatever was asked for."""
    aegis.App.create("web", engine=engine)
    with pytest.raises(aegis.AppNotFound) as caught:
        aegis.App.get(name, engine=engine)
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable() or "\n" in str(caught.value)


def test_no_name_is_an_id(engine):
    """No app can be given a name that is another one's ID."""
    with pytest.raises(aegis.InvalidValue):
        aegis.App.create(aegis.App.create("web", engine=engine).id, engine=engine)


def test_a_workspace_outlives_its_app_unless_it_is_to_go(engine):
    """A workspace is made for its user alone when it is used first; it goes when that is asked for."""
    apps = [aegis.App.create(name, engine=engine) for name in ("web", "api")]
    assert not any(app.workspace.exists() for app in apps)
    for app in apps:
        assert engine.apps.workspace(app.name) == engine.apps.workspace(app.id) == app.workspace
        assert stat.S_IMODE(app.workspace.stat().st_mode) == 0o700
        (app.workspace / "file").write_text("kept")
    apps[0].delete()
    apps[1].delete(workspace=True)
    assert (apps[0].workspace / "file").read_text() == "kept"
    assert not apps[1].workspace.exists()
    with pytest.raises(aegis.AppNotFound):
        engine.apps.workspace("web")


def test_a_workspace_that_was_never_made(engine):
    """Deleting a workspace that is not there is fine."""
    aegis.App.create("web", engine=engine).delete(workspace=True)
    assert aegis.App.list(engine=engine) == []


def test_whatever_is_in_a_workspace_goes_and_nothing_else(engine, tmp_path):
    """A workspace is removed however deep it is, with links that lead out, and what they lead to stays."""
    app = aegis.App.create("web", engine=engine)
    top = engine.apps.workspace("web")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("stays")
    for name, target in (("directory", outside), ("file", outside / "file"), ("loop", "loop"), ("none", "/none")):
        (top / name).symlink_to(target)
    os.link(outside / "file", top / "hard")
    os.mkfifo(top / "pipe")
    (top / os.fsdecode(b"\xff\n")).mkdir()
    deep(top, 3000)
    app.delete(workspace=True)
    assert not top.exists()
    assert (outside / "file").read_text() == "stays"
    assert os.listdir(top.parent) == []


def deep(top: Path, levels: int) -> None:
    """A tree that is deeper than any path is long."""
    script = (
        "import os\nfor _ in range(%d):\n os.mkdir('d'); open('f', 'w').close(); os.symlink('/etc', 'l'); os.chdir('d')"
    )
    subprocess.run([sys.executable, "-c", script % levels], cwd=top, check=True)


def test_directories_that_are_closed(tmp_path):
    """What a guest has made unreadable goes, too, without root's rights."""
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o777)
    with unprivileged(home):
        engine = engine_at(home)
        app = aegis.App.create("web", engine=engine)
        inner = engine.apps.workspace("web") / "a" / "b"
        inner.mkdir(parents=True)
        (inner / "file").touch()
        for closed in (inner, inner.parent, app.workspace):
            closed.chmod(0)
        app.delete(workspace=True)
        assert not app.workspace.exists()


def test_a_workspace_that_is_a_link_is_not_followed(engine, tmp_path):
    """Somebody has put a link in a workspace's place: what it leads to stays, and the app, too."""
    app = aegis.App.create("web", engine=engine)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    app.workspace.parent.mkdir(mode=0o700)
    app.workspace.symlink_to(tmp_path / "precious")
    with pytest.raises(aegis.StoreFailed, match="cannot be removed"):
        app.delete(workspace=True)
    assert (tmp_path / "precious" / "file").exists()
    assert aegis.App.list(engine=engine) == [app]


def test_an_apps_secrets_as_a_mapping(engine):
    """They are set, deleted, counted, looked for and iterated over by name; none can be read."""
    app = aegis.App.create("web", engine=engine)
    app.secrets["KEY"] = "s3cr3t"
    app.secrets["BYTES"] = b"more"
    assert (list(app.secrets), len(app.secrets)) == (["BYTES", "KEY"], 2)
    assert "KEY" in app.secrets
    assert "NO" not in app.secrets
    with pytest.raises(TypeError, match="read back"):
        app.secrets["KEY"]
    assert "s3cr3t" not in repr(app) + repr(app.secrets)
    del app.secrets["KEY"]
    assert list(app.secrets) == ["BYTES"]
    with pytest.raises(aegis.SecretNotFound):
        del app.secrets["KEY"]
    assert engine.secrets.environment("web") == {"BYTES": "more"}


def test_secrets_of_an_app_and_of_all(engine):
    """A secret is set, found, listed and deleted in its scope alone, and shows no value."""
    app = aegis.App.create("web", engine=engine)
    mine = aegis.Secret.set("KEY", "mine", app="web", engine=engine)
    shared = aegis.Secret.set("KEY", b"shared", engine=engine)
    assert (mine.name, mine.app, shared.app) == ("KEY", app.id, None)
    assert aegis.Secret.list(app=app.id, engine=engine) == [aegis.Secret.get("KEY", app="web", engine=engine)] == [mine]
    assert aegis.Secret.list(engine=engine) == [shared]
    assert "mine" not in repr(mine)
    assert aegis.Secret.rotate_key(engine=engine) == 2
    shared.delete()
    assert engine.secrets.environment("web") == {"KEY": "mine"}
    with pytest.raises(aegis.SecretNotFound):
        aegis.Secret.get("KEY", engine=engine)
    for call in (aegis.Secret.list, lambda **scope: aegis.Secret.set("KEY", "", **scope)):
        with pytest.raises(aegis.AppNotFound):
            call(app="none", engine=engine)
