"""Secrets of the daemon's guests: they reach those of their app, and are to be seen nowhere else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import aegis_sdk as aegis
from tests.conftest import until
from tests.served import Served

pytestmark = [pytest.mark.of_qemu, pytest.mark.timeout(60)]
VALUE = "gr33n-0ranges-are-not-yell0w"
#: It waits for a file in its workspace, so that there is time to look around.
SCRIPT = """
printf %s "$KEY" | md5sum
echo "$SHARED $OWN $GIVEN"
cat /proc/cmdline
touch ready
until [ -e go ]; do sleep 0.1; done
"""


@pytest.fixture
def web(served: Served) -> Iterator[aegis.App]:
    """An app, and secrets of it and of all apps, as the command line sets them."""
    app = aegis.App.create("web", engine=served.engine)
    for words in (("set", "web", "KEY"), ("set-workspace", "GIVEN")):
        assert served.cli("secret", *words, input=VALUE).returncode == 0
    app.secrets["GIVEN"], app.secrets["OWN"] = VALUE, "mine"
    for name in ("SHARED", "OWN"):
        aegis.Secret.set(name, "of all", engine=served.engine)
    yield app
    app.delete(workspace=True)
    for secret in aegis.Secret.list(engine=served.engine):
        secret.delete()


def spellings(value: str) -> list[bytes]:
    """The value, and what people and programs make of it so that it looks like none."""
    plain = value.encode()
    return [plain, plain[::-1], base64.b64encode(plain)[:-4], plain.hex().encode()]


def processes() -> Iterator[tuple[str, bytes]]:
    """The words and the environment of every process of this machine."""
    for file in (*Path("/proc").glob("[0-9]*/cmdline"), *Path("/proc").glob("[0-9]*/environ")):
        try:
            yield str(file), file.read_bytes()
        except OSError:
            continue  # it has ended


def files(home: Path) -> Iterator[tuple[str, bytes]]:
    """All that a home holds, but for its images."""
    for file in home.rglob("*"):
        if file.is_file() and not file.is_symlink() and "images" not in file.parts:
            yield str(file), file.read_bytes()


def answers(served: Served, task: str, sandbox: str | None) -> Iterator[tuple[str, bytes]]:
    """What the daemon says of all that there is."""
    for path in ("status", "apps", "apps/web", "apps/web/secrets", "secrets", "tasks", f"tasks/{task}", "sandboxes"):
        yield path, served.ask("GET", f"/v1/{path}").body
    for path in (f"tasks/{task}/logs", f"sandboxes/{sandbox}", f"sandboxes/{sandbox}/console", "checks"):
        yield path, served.ask("GET", f"/v1/{path}").body
    yield "aegis task info", served.cli("task", "info", task).stdout.encode()


def test_a_value_reaches_its_guest_and_is_nowhere_else(served, web):
    """It is in its guest's environment: not in words or environment of a process here, nor in a file, log or answer."""
    command = ("sh", "-c", f"cd /workspace; {SCRIPT}")
    task = aegis.Task.submit(*command, app="web", env={"GIVEN": "said"}, timeout=50, engine=served.engine)
    assert until((web.workspace / "ready").exists, 30), [entry.text for entry in task.logs()]
    sandbox = task.info().sandbox
    while_it_runs = dict((*processes(), *files(served.home), *answers(served, task.id, sandbox)))
    (web.workspace / "go").touch()
    assert task.wait().state is aegis.TaskState.SUCCEEDED
    after = dict((*processes(), *files(served.home), *answers(served, task.id, sandbox)))
    assert "KEY" in after["apps/web/secrets"].decode()
    names = {Path(name).name for name in while_it_runs}
    assert {"aegis.db", "aegis.db-wal", "aegisd.log", "cmdline", "environ"} <= names
    for seen in (while_it_runs, after):
        assert not [name for name, held in seen.items() for value in spellings(VALUE) if value in held]
    said = "".join(entry.text for entry in task.logs() if entry.source == "stdout").splitlines()
    assert said[0].split()[0] == hashlib.md5(VALUE.encode()).hexdigest()
    assert said[1] == "of all mine said"
    assert len(said[2]) > 20, "the kernel's words"


def test_a_secret_that_cannot_be_read_fails_the_task(served, web):
    """Without the key a task of the app fails before it boots, with what to do; with it, it runs, and nothing is lost.

    A task that names no app gets no secret, and no workspace, and minds no key.
    """
    key = served.home / "master.key"
    held = key.read_bytes()
    key.unlink()
    info = aegis.Task.submit("true", app="web", engine=served.engine).wait()
    assert (info.state, info.sandbox) == (aegis.TaskState.FAILED, None)
    assert "the secret GIVEN of app web cannot be decrypted" in info.reason
    assert "aegis secret set web GIVEN" in info.reason
    done = served.cli("run", "--", "sh", "-c", "echo $SHARED $KEY; touch /workspace/file")
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
    key.write_bytes(held)
    key.chmod(0o600)
    done = served.cli("run", "--app", "web", "--", "sh", "-c", "echo ${#KEY}; ls /workspace; touch /workspace/file")
    assert (done.returncode, done.stdout) == (0, f"{len(VALUE)}\n"), done.stderr
    assert (web.workspace / "file").exists()
