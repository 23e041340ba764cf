"""``aegis app``, as a user meets it, with a daemon and without."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any


def test_an_app(records):
    """An app is created, listed, shown by name and by ID, and deleted; what is gone is an error in words."""
    made = records.cli("app", "create", "--name", "web")
    assert made.returncode == 0, made.stderr
    shown = dict(line.split(maxsplit=1) for line in made.stdout.splitlines())
    assert shown["name"] == "web"
    assert shown["workspace"] == str(records.home / "data" / "workspaces" / shown["id"])
    assert records.cli("app", "info", shown["id"]).stdout == records.cli("app", "info", "web").stdout == made.stdout
    titles, row = records.cli("app", "list").stdout.splitlines()
    assert (titles.split(), row.split()[:2]) == (["NAME", "ID", "CREATED"], ["web", shown["id"]])
    again = records.cli("app", "create", "--name", "web")
    assert (again.returncode, again.stdout) == (1, "")
    assert "there is an app web already" in again.stderr
    assert "its workspace" in records.cli("app", "delete", "web").stdout
    gone = records.cli("app", "info", "web")
    assert gone.returncode == 1
    assert "there is no app 'web'" in gone.stderr
    assert "aegis app list" in gone.stderr


def test_as_json(records):
    """With --json each answer is one JSON value."""

    def ask(*words: str) -> Any:
        done = records.cli("app", *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert ask("list") == []
    made = ask("create", "--name", "api")
    assert set(made) == {"id", "name", "created", "workspace"}
    assert ask("list") == [ask("info", "api")] == [made]
    assert ask("delete", "api", "--workspace") == {"deleted": made["id"], "workspace": True}


def test_a_workspace(records):
    """Deleting an app keeps its workspace, unless --workspace asks for it to go."""
    for words, stays in ((), True), (("--workspace",), False):
        made = json.loads(records.cli("app", "create", "--name", "kept", "--json").stdout)
        workspace = Path(made["workspace"])
        workspace.mkdir(parents=True, mode=0o700)
        (workspace / "file").touch()
        done = records.cli("app", "delete", "kept", *words)
        assert done.returncode == 0, done.stderr
        assert (str(workspace) in done.stdout) == stays == workspace.exists()


def test_what_cannot_be_meant(records):
    """A name that cannot be, or none, is an error that says what one is; a wrong word gets the nearest right one."""
    wrong = records.cli("app", "create", "--name", "My_App")
    assert wrong.returncode == 1
    assert "lower-case letters, digits and hyphens" in wrong.stderr
    assert records.cli("app", "create").returncode == 2
    assert "Did you mean 'delete'?" in records.cli("app", "delet", "web").stderr
    assert records.cli("app", "info", "../../etc").returncode == 1
    assert stat.S_IMODE(records.home.stat().st_mode) == 0o700
