"""``aegis app serve`` on a terminal's terms: it shows the log, and Ctrl-C ends what it has begun."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.engine.local import LocalEngine
from tests.conftest import AEGIS
from tests.served import Served

pytestmark = pytest.mark.timeout(60)
HTTPD = ("httpd", "-f", "-v", "-p", "127.0.0.1:8000", "-h", "/workspace")


@pytest.fixture
def site(records: Served) -> Iterator[str]:
    """An app with a release, v1."""
    engine = records.engine if records.pid else LocalEngine(Config(home=records.home))
    app = aegis.App.create("site", command=HTTPD, expose=[8000], engine=engine)
    app.publish(label="v1")
    yield "site"
    app.delete(workspace=True)
    engine.close()


@contextmanager
def serving(records: Served, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command, while it runs."""
    command = [*AEGIS, "app", "serve", *words]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=records.environment, text=True, **streams) as process:  # type: ignore[call-overload]
        yield process
        process.kill()


def test_until_ctrl_c(records, site):
    """It says where the app is, shows what the server says, and Ctrl-C stops it."""
    with serving(records, site, "--json") as process:
        info = json.loads(process.stdout.readline())
        assert (info["name"], info["label"], info["state"]) == ("site", "v1", "RUNNING")
        assert "v1 is ready" in json.loads(process.stdout.readline())["text"]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(info["url"] + "nothing", timeout=30)
        entry = json.loads(process.stdout.readline())
        assert (entry["source"], "404" in entry["text"]) == ("server", True)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
        assert (process.returncode, "Traceback" in said) == (128 + signal.SIGINT, False)
    assert "not served" in records.cli("app", "info", site).stdout


def test_what_the_daemon_serves_goes_on(records, site):
    """--detach leaves the app to the daemon, and who only looks on leaves it as it is."""
    detached = records.cli("app", "serve", site, "--detach")
    if records.pid is None:
        assert (detached.returncode, "aegis up" in detached.stderr) == (1, True)
        return
    assert detached.stdout.startswith("http://127.0.0.1:"), detached.stderr
    with serving(records, site) as process:
        assert "release v1 of app site is served at http://127.0.0.1:" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 128 + signal.SIGINT
    _, row = records.cli("app", "list").stdout.splitlines()
    assert row.split()[2:] == ["RUNNING", "(v1)", detached.stdout.strip()]
    assert "system v1 is ready" in records.cli("app", "logs", site, "--timestamps").stdout
