"""``aegis app``, as a user meets it, with a daemon and without."""

from __future__ import annotations

import json
import re
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
    assert shown["state"] == "not served"
    assert records.cli("app", "info", shown["id"]).stdout == records.cli("app", "info", "web").stdout == made.stdout
    titles, row = records.cli("app", "list").stdout.splitlines()
    assert (titles.split(), row.split()[:2]) == (["NAME", "ID", "STATE", "URL"], ["web", shown["id"]])
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
        done = records.cli("app", words[0], "--json", *words[1:])
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert ask("list") == []
    made = ask("create", "--name", "api", "--expose", "8000", "-e", "A=b", "--idle", "never", "--", "httpd", "-f")
    assert set(made) == {"id", "name", "created", "workspace", "spec", "instances", "release"}
    assert (made["spec"]["command"], made["spec"]["env"], made["spec"]["idle"]) == (["httpd", "-f"], {"A": "b"}, None)
    assert ask("info", "api") == made
    assert ask("list") == [{name: value for name, value in made.items() if name != "release"}]
    updated = ask("update", "api", "--stop-after", "5m", "--expose", "5432/tcp")
    assert updated["spec"] == {**made["spec"], "stop_after": 300, "expose": [_port(5432)]}
    released = ask("publish", "api", "--label", "v1")
    assert ask("releases", "api") == [ask("info", "api")["release"]] == [released]
    assert (released["number"], released["spec"]["expose"]) == (1, [_port(5432)])
    assert ask("stop", "api") == {"stopped": []}
    assert ask("delete", "api", "--workspace") == {"deleted": made["id"], "workspace": True}


def _port(number: int) -> dict[str, Any]:
    return {"number": number, "protocol": "tcp", "local": None}


def test_releases(records):
    """A release is named and listed, never changes, and needs its image as long as its app is there."""
    for words in (("create", "--name", "site", "--expose", "8000", "--", "httpd", "-f"), ("publish", "site")):
        assert records.cli("app", *words).returncode == 0
    assert "published release v2 (rel_" in records.cli("app", "publish", "site", "--label", "v2").stdout
    again = records.cli("app", "publish", "site", "--label", "v2")
    assert again.returncode == 1
    assert "has a release 'v2' already" in again.stderr
    titles, first, second = records.cli("app", "releases", "site").stdout.splitlines()
    assert titles.split() == ["NUMBER", "LABEL", "ID", "IMAGE", "DIGEST", "PUBLISHED"]
    assert (first.split()[0], second.split()[:2]) == ("1", ["2", "v2"])
    needed = records.cli("image", "remove", "base")
    assert needed.returncode == 1
    assert re.search(r"release \S+ of app \S+ needs base", needed.stderr)
    logs = records.cli("app", "logs", "site")
    assert logs.returncode == 1
    assert "the app site is not served" in logs.stderr
    assert records.cli("app", "stop", "site").stdout == "app site was not served\n"
    unknown = records.cli("app", "serve", "site", "--release", "v9")
    assert unknown.returncode == 1
    (hint,) = re.findall("`aegis (.*)`", unknown.stderr)
    assert records.cli(*hint.split()).returncode == 0
    assert records.cli("app", "delete", "site", "--workspace").returncode == 0


def test_lengths_of_time_and_ports(records):
    """What is no length of time, no port or no variable is refused with an example; nothing is put on record."""
    for option, word, example in (
        ("--idle", "60", "or never"),
        ("--readiness-timeout", "never", "write it like 90s"),
        ("--expose", "8000/udp", "PORT/tcp"),
        ("--env", "A", "NAME=VALUE"),
        ("--readiness-port", "0", "from 1 to 65535"),
    ):
        wrong = records.cli("app", "create", "--name", "wrong", option, word)
        assert wrong.returncode in (1, 2), option
        assert example in wrong.stderr
    assert records.cli("app", "info", "wrong").returncode == 1
    nothing = records.cli("app", "update", "wrong")
    assert (nothing.returncode, "Nothing was given" in nothing.stderr) == (2, True)


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
