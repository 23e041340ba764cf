"""``aegis secret``, as a user meets it, with a daemon and without."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pexpect
import pytest

from tests.conftest import AEGIS, until
from tests.sdk.store.homes import engine_at
from tests.served import Served

pytestmark = pytest.mark.timeout(60)
VALUE = "gr33n-0ranges-are-not-yell0w"


@pytest.fixture(scope="module")
def web(records: Served) -> Served:
    """The home with an app."""
    assert records.cli("app", "create", "--name", "web").returncode == 0
    return records


def environment(home: Served) -> dict[str, str]:
    """What the app's guests get."""
    return engine_at(home.home).secrets.environment("web")


def test_from_standard_input(web):
    """A value comes from standard input without the newline at its end, and only that one; nothing shows it."""
    for given, kept in ((f"{VALUE}\n", VALUE), (VALUE, VALUE), (f"{VALUE}\n\n", f"{VALUE}\n"), ("\n", "")):
        done = web.cli("secret", "set", "web", "KEY", input=given)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert environment(web)["KEY"] == kept
    nothing = web.cli("secret", "set", "web", "KEY", input="")
    assert nothing.returncode == 2
    assert "empty" in nothing.stderr
    closed = ["sh", "-c", '"$@" <&-', "sh", *AEGIS, "secret", "set", "web", "KEY"]
    done = subprocess.run(closed, env=web.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr


def test_from_elsewhere(web, tmp_path):
    """A value comes from a file, all of it, or from an argument; not from both."""
    file = tmp_path / "value"
    file.write_text(f"{VALUE}\n")
    assert web.cli("secret", "set", "web", "FILE", "--from-file", str(file)).returncode == 0
    assert web.cli("secret", "set", "web", "WORD", "--value", "").returncode == 0
    assert (environment(web)["FILE"], environment(web)["WORD"]) == (f"{VALUE}\n", "")
    for words in (("--from-file", str(file), "--value", "x"), ("--from-file", str(tmp_path / "none"))):
        assert web.cli("secret", "set", "web", "OTHER", *words).returncode == 2
    assert "OTHER" not in environment(web)


def test_asked_for(web):
    """On a terminal the value is asked for, and not shown; Ctrl-C sets nothing; nor is it asked for where no app is."""
    command = " ".join(AEGIS)
    with pexpect.spawn(f"{command} secret set web ASKED", env=web.environment, timeout=30, encoding="utf-8") as child:
        child.expect("Value of ASKED: ")
        child.sendline(VALUE)
        child.expect(pexpect.EOF)
        assert VALUE not in child.before
    assert child.exitstatus == 0
    assert environment(web)["ASKED"] == VALUE
    with pexpect.spawn(f"{command} secret set-workspace NOT", env=web.environment, timeout=30) as child:
        child.expect("Value of NOT: ")
        child.sendintr()
        child.expect(pexpect.EOF)
    assert child.exitstatus == 130
    assert "NOT" not in environment(web)
    with pexpect.spawn(f"{command} secret set none KEY", env=web.environment, timeout=30) as child:
        child.expect("there is no app")
        child.expect(pexpect.EOF)


def test_of_an_app_and_of_all(web):
    """Secrets of all apps go under an app's own, and are listed and deleted by themselves; no list shows a value."""
    assert web.cli("secret", "set-workspace", "SHARED", "--value", VALUE).returncode == 0
    assert web.cli("secret", "set-workspace", "BOTH", "--value", VALUE).returncode == 0
    assert web.cli("secret", "set", "web", "BOTH", "--value", "mine").returncode == 0
    assert (environment(web)["SHARED"], environment(web)["BOTH"]) == (VALUE, "mine")
    listed = json.loads(web.cli("secret", "list-workspace", "--json").stdout)
    assert [secret["name"] for secret in listed] == ["BOTH", "SHARED"]
    assert set(listed[0]) == {"name", "app", "created", "updated"}
    shown = web.cli("secret", "list", "web").stdout
    assert ["BOTH", "just", "now"] in [line.split() for line in shown.splitlines()]
    assert VALUE not in shown
    assert web.cli("secret", "delete", "web", "BOTH").returncode == 0
    assert environment(web)["BOTH"] == VALUE
    assert web.cli("secret", "delete-workspace", "BOTH").returncode == 0
    for words in (("delete", "web", "BOTH"), ("delete-workspace", "BOTH")):
        gone = web.cli("secret", *words)
        assert gone.returncode == 1
        assert "there is no secret BOTH" in gone.stderr


@pytest.mark.parametrize("given", [b"\0" + VALUE.encode(), VALUE.encode() + b"\xff", VALUE.encode() * 3000])
def test_what_cannot_be_a_value(web, given):
    """What no environment variable can hold is refused, and not shown."""
    command = [*AEGIS, "secret", "set", "web", "BAD"]
    done = subprocess.run(command, input=given, env=web.environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"a secret's value" in done.stderr
    assert VALUE.encode() not in done.stdout + done.stderr


def test_a_new_key(web):
    """rotate-key says how many secrets have a new key, and they are what they were."""
    before, key = environment(web), (web.home / "master.key").read_bytes()
    count = json.loads(web.cli("secret", "rotate-key", "--json").stdout)["secrets"]
    assert count > 2
    assert f"{count} secrets" in web.cli("secret", "rotate-key").stdout
    assert environment(web) == before
    assert (web.home / "master.key").read_bytes() != key


def test_a_value_is_nowhere_to_be_seen(web):
    """A value that comes by standard input is in no process's words or environment, and in no file of the home."""
    command = [*AEGIS, "secret", "set", "web", "HIDDEN"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=web.environment) as process:
        process.stdin.write(VALUE.encode())
        process.stdin.flush()
        assert until(lambda: bool(found_in_processes(b"HIDDEN")), 10)
        assert not found_in_processes(VALUE.encode())
        process.stdin.close()
        assert process.wait(30) == 0
    assert environment(web)["HIDDEN"] == VALUE
    assert not found_in_processes(VALUE.encode())
    files = [path for path in web.home.rglob("*") if path.is_file()]
    assert {"aegis.db", "master.key"} <= {path.name for path in files}
    assert not [path for path in files if VALUE.encode() in path.read_bytes()]


def found_in_processes(what: bytes) -> list[Path]:
    """The processes in whose words or environment that is."""
    found = []
    for file in (*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")):
        try:
            held = file.read_bytes()
        except OSError:
            continue  # it has ended
        if what in held:
            found.append(file)
    return found


def test_a_key_that_is_gone(web):
    """Without the key all else works; doctor says what happened, and is content; who sets a secret again mends it."""
    secrets = engine_at(web.home).secrets
    for app in ("web", None):
        for secret in secrets.list(app=app):
            secrets.delete(secret.name, app=app)
        secrets.set("KEY", VALUE.encode(), app=app)
    (web.home / "master.key").unlink()
    said = web.cli("doctor", "--quick")
    assert said.returncode == 0
    assert "master.key is gone" in said.stdout
    assert "`aegis secret set web KEY`" in said.stdout
    assert "`aegis secret set-workspace KEY`" in said.stdout
    assert web.cli("app", "list").returncode == web.cli("secret", "list", "web").returncode == 0
    failed = web.cli("secret", "rotate-key")
    assert failed.returncode == 1
    assert "cannot be decrypted" in failed.stderr
    assert web.cli("secret", "set", "web", "KEY", "--value", "new").returncode == 0
    assert environment(web) == {"KEY": "new"}
    assert web.cli("secret", "set-workspace", "KEY", "--value", "again").returncode == 0
    mended = json.loads(web.cli("doctor", "--quick", "--json").stdout)["checks"]
    assert [check["ok"] for check in mended if check["name"] == "master key"] == [True]
