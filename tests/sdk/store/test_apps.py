"""Apps and their workspaces."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

import aegis_sdk as aegis
from aegis_sdk.engine import workspaces
from aegis_sdk.model import ReleaseInfo
from tests.sdk.image_blobs import unprivileged
from tests.sdk.store.homes import engine_at


def test_a_workspace_outlives_its_app_unless_it_is_to_go(local):
    """A workspace is made for its user alone when it is used first; it goes when that is asked for."""
    apps = [aegis.App.create(name, engine=local) for name in ("web", "api")]
    assert not any(app.workspace.exists() for app in apps)
    for app in apps:
        assert local.apps.workspace(app.name) == local.apps.workspace(app.id) == app.workspace
        assert stat.S_IMODE(app.workspace.stat().st_mode) == 0o700
        (app.workspace / "file").write_text("kept")
    apps[0].delete()
    apps[1].delete(workspace=True)
    assert (apps[0].workspace / "file").read_text() == "kept"
    assert not apps[1].workspace.exists()
    with pytest.raises(aegis.AppNotFound):
        local.apps.workspace("web")


def test_a_workspace_that_was_never_made(local):
    """Deleting a workspace that is not there is fine."""
    aegis.App.create("web", engine=local).delete(workspace=True)
    assert aegis.App.list(engine=local) == []


def test_no_app_is_served_while_it_is_deleted(local, monkeypatch):
    """Who has an app served just when it is deleted is told so; one that stays after all can be served."""
    app = aegis.App.create("web", command=["true"], expose=[8000], engine=local)
    app.publish()
    remove, refused = workspaces.remove, aegis.AppNotFound

    def serve_meanwhile(path: Path) -> None:
        with pytest.raises(refused, match="web was deleted"):
            app.serve()
        remove(path)

    def fail(path: Path) -> None:
        raise OSError(errno.EBUSY, "in use")

    monkeypatch.setattr(workspaces, "remove", fail)
    with pytest.raises(aegis.StoreFailed, match="in use"):
        app.delete(workspace=True)
    monkeypatch.setattr(local.serving, "_new", _refuse)
    with pytest.raises(aegis.NotServed, match="tried"):
        app.serve()
    monkeypatch.setattr(workspaces, "remove", serve_meanwhile)
    app.delete(workspace=True)
    assert local.serving.instances() == ()
    assert aegis.App.list(engine=local) == []


def _refuse(app: str, release: ReleaseInfo) -> NoReturn:
    raise aegis.NotServed(f"it was tried to serve {release.id} of {app}")


def test_whatever_is_in_a_workspace_goes_and_nothing_else(local, tmp_path):
    """A workspace is removed however deep it is, with links that lead out, and what they lead to stays."""
    app = aegis.App.create("web", engine=local)
    top = local.apps.workspace("web")
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


def test_a_guest_that_goes_on_writing(local, monkeypatch):
    """Removing ends, also where something is made as fast as it goes: then the app stays, to be deleted again."""
    app = aegis.App.create("web", engine=local)
    deep(local.apps.workspace("web"), 20)
    monkeypatch.setattr(workspaces, "_DEEPEST", 5)
    with pytest.raises(aegis.StoreFailed, match="cannot be removed"):
        app.delete(workspace=True)
    assert aegis.App.get("web", engine=local) == app
    monkeypatch.undo()
    app.delete(workspace=True)
    assert not app.workspace.exists()


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
        local = engine_at(home)
        app = aegis.App.create("web", engine=local)
        inner = local.apps.workspace("web") / "a" / "b"
        inner.mkdir(parents=True)
        (inner / "file").touch()
        for closed in (inner, inner.parent, app.workspace):
            closed.chmod(0)
        app.delete(workspace=True)
        assert not app.workspace.exists()


def test_a_workspace_that_is_a_link_is_not_followed(local, tmp_path):
    """Somebody has put a link in a workspace's place: what it leads to stays, and the app, too."""
    app = aegis.App.create("web", engine=local)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    app.workspace.parent.mkdir(mode=0o700)
    app.workspace.symlink_to(tmp_path / "precious")
    with pytest.raises(aegis.StoreFailed, match="cannot be removed"):
        app.delete(workspace=True)
    assert (tmp_path / "precious" / "file").exists()
    assert aegis.App.list(engine=local) == [app]
