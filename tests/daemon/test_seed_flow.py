"""Apps as a user first meets them: the commands, curl, and what can be seen of it all from this machine."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import listening
from tests.images_made import said

_REFUSED = "does not take connections on port 80: nothing listens on port 80 in the guest"

pytestmark = [pytest.mark.of_qemu, pytest.mark.timeout(120)]


def _curl(*words: str) -> tuple[int, str]:
    """The status and the body that curl got."""
    body, _, status = said("curl", "-sS", "--max-time", "40", "-w", "\n%{http_code}", *words).rpartition("\n")
    return int(status), body


def test_the_seed_flow(another, registry, monkeypatch):
    """Create, publish, serve, ask; a second app beside it; exec, logs, stop, delete, down."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("AEGIS_ROUTER_PORT", str(port))
    url = f"http://127.0.0.1:{port}"
    registry.push("python", "python:3.12-alpine")
    image = registry.name("python:3.12-alpine")
    daemon = another()

    def aegis(*words: str, **options: object) -> str:
        done = daemon.cli(*words, **options)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    before = listening()
    aegis("up")
    create = ("app", "create", "--name", "web", "--image", image, "--expose", "8000", "--env", "A=1", "--idle", "60s")
    aegis(*create, "--stop-after", "20m", "--memory", "256", "--", "python", "-m", "http.server", "8000")
    aegis("secret", "set", "web", "API_KEY", input="s3cret\n")
    aegis("app", "publish", "web", "--label", "v1")
    assert f"{url}/app/web/" in aegis("app", "serve", "web", "--detach")
    status, page = _curl(f"{url}/app/web/")
    assert (status, "Directory listing for /" in page) == (200, True)
    assert _curl("-H", "X-Aegis-App: web", f"{url}/") == (status, page)
    assert _curl(f"{url}/") == (status, page), "the only app is meant where none is named"

    server = "import socket; s = socket.create_server(('127.0.0.1', 5432))\nwhile 1: s.accept()[0].sendall(b'hello')"
    aegis("app", "create", "--name", "db", "--image", image, "--expose", "80", "--expose", "5432/tcp", "--env", "B=2",
          "--readiness-port", "5432", "--memory", "256", "--", "python", "-c", server)  # fmt: skip
    aegis("app", "publish", "db")
    aegis("app", "serve", "db", "--detach")
    (served,) = json.loads(aegis("app", "info", "db", "--json"))["instances"]
    local = served["addresses"]["5432/tcp"]
    with socket.create_connection(("127.0.0.1", int(local.rpartition(":")[2])), 10) as client:
        assert client.recv(5) == b"hello"
    assert listening() - before == {f"127.0.0.1:{port}", local}

    for words in ([f"{url}/app/web/"], ["-H", "X-Aegis-App: web", url], [f"http://web.localhost:{port}/"]):
        assert _curl(*words) == (200, page)
    for words in ([f"{url}/app/db/"], ["-H", "X-Aegis-App: db", url], [f"http://db.localhost:{port}/"]):
        assert _curl(*words) == (502, f"the app {_REFUSED}\n")
    other = ([f"{url}/app/other/"], ["-H", "X-Aegis-App: other", url], [f"http://other.localhost:{port}/"])
    for words in (*other, [url]):
        status, text = _curl(*words)
        assert (status, "there are: /app/db/, /app/web/" in text) == (404, True)

    assert aegis("exec", "web", "--", "python", "-c", "print(6 * 7)") == "42\n"
    assert re.search(r"web +app_\w+ +RUNNING \(v1\) +" + re.escape(f"{url}/app/web/"), aegis("app", "list"))
    assert "v1" in aegis("app", "releases", "web")
    assert "GET / HTTP/1.1" in aegis("app", "logs", "web")
    workspace = Path(json.loads(aegis("app", "info", "web", "--json"))["workspace"])
    aegis("app", "stop", "web")
    assert _curl(f"{url}/app/web/")[0] == 503
    aegis("app", "delete", "web", "--workspace")
    assert (_curl(f"{url}/app/web/")[0], workspace.exists()) == (404, False)
    aegis("down")
    assert listening() <= before
    with pytest.raises(subprocess.SubprocessError):
        subprocess.run(["curl", "-sS", url], check=True, capture_output=True)
