"""The daemon's second socket: connections to guests, and leases."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

import pytest

import aegis_sdk as aegis
from aegis_sdk.model import SandboxSpec
from tests.conftest import AEGIS, monitors, until


def said(served, line: bytes) -> Any:
    """What is answered to *line*."""
    with served.guests() as client:
        client.sendall(line)
        return json.loads(client.makefile().readline())


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b"{}\n",
        b'{"dial": 1}\n',
        b'{"dial": "x", "lease": true}\n',
        b'{"lease": false}\n',
        b'{"lease": "yes"}\n',
        b'{"unknown": "x"}\n',
        b'{"dial": "' + b"x" * 10_000 + b'"}\n',
        b"[" * 4000 + b"\n",
    ],
)
def test_what_cannot_be_meant_is_refused(served, line):
    """One thing is to be asked for, in one line that is not too long; else the answer says what is wrong."""
    assert said(served, line)["error"]["code"] == "invalid-value"


def test_what_is_not_there(served):
    """A sandbox and a task that are unknown are errors like any other."""
    assert said(served, b'{"dial": "nothing"}\n')["error"]["code"] == "sandbox-closed"
    assert said(served, b'{"attach": "nothing"}\n')["error"]["code"] == "task-not-found"


def test_a_connection_comes_with_the_answer(served, engine):
    """What is dialled comes as a descriptor, and works on when the connection that brought it is closed."""
    with aegis.Sandbox(engine=engine) as vm, served.guests() as client:
        client.sendall(json.dumps({"dial": vm.id}).encode() + b"\n")
        line, descriptors, _, _ = socket.recv_fds(client, 1 << 16, 4)
        assert json.loads(line) == {"ok": {}}
        client.close()
        (descriptor,) = descriptors
        with socket.socket(fileno=descriptor) as connection:
            assert connection.getpeername() is not None
            assert vm.run("echo", "hello").stdout == "hello\n"


def test_a_client_that_says_nothing_is_left_alone_only_so_long(served):
    """Many who connect and say nothing keep nobody from being served."""
    silent = [served.guests() for _ in range(50)]
    try:
        assert said(served, b"{}\n")["error"]["code"] == "invalid-value"
    finally:
        for client in silent:
            client.close()


def test_a_sandbox_ends_with_its_lease(served):
    """What hangs on a lease is removed when its connection closes, and later nothing can hang on it."""
    before = monitors()
    with served.guests() as holder:
        holder.sendall(b'{"lease": true}\n')
        lease = json.loads(holder.makefile().readline())["ok"]["lease"]
        info = served.ask("POST", "/v1/sandboxes", {"lease": lease}).json
        assert info["state"] == "RUNNING"
    assert until(lambda: served.ask("GET", f"/v1/sandboxes/{info['id']}").status == 404, 10)
    assert until(lambda: monitors() <= before, 5)
    assert served.ask("POST", "/v1/sandboxes", {"lease": lease}).code == "not-found"


def test_a_lease_that_ends_during_a_boot(served):
    """A client that hangs up while its sandbox boots leaves none."""
    before = monitors()
    with served.guests() as holder:
        holder.sendall(b'{"lease": true}\n')
        lease = json.loads(holder.makefile().readline())["ok"]["lease"]
        with served.guests():
            asking = subprocess.Popen([sys.executable, "-c", _ASK, str(served.socket), lease])
        assert until(lambda: monitors() > before, 10)
    assert asking.wait(timeout=20) == 0
    assert until(lambda: monitors() <= before, 10)
    assert served.ask("GET", "/v1/sandboxes").json == []


_ASK = """
import sys
from pathlib import Path
from tests.served import Served
assert Served(Path(sys.argv[1]).parent).ask("POST", "/v1/sandboxes", {"lease": sys.argv[2]}).status == 404
"""


@pytest.mark.timeout(60)
def test_a_client_killed_at_any_moment_leaves_nothing(served):
    """SIGKILL of a client while it boots, runs a command or follows a task's output leaves no guest and no task."""
    before = monitors()
    environment = {**os.environ, "AEGIS_HOST": str(served.socket)}
    for seconds in (0.3, 1.0, 2.5, 4.0):
        script = "import aegis_sdk as a\nvm = a.Sandbox()\nprint('up', flush=True)\nvm.run('sleep', '100')"
        with (
            subprocess.Popen([sys.executable, "-c", script], env=environment) as script_client,
            subprocess.Popen([*AEGIS, "run", "--", "sleep", "100"], env=environment) as run_client,
        ):
            with suppress(subprocess.TimeoutExpired):
                script_client.wait(seconds)
            for client in (script_client, run_client):
                client.send_signal(signal.SIGKILL)
    assert until(lambda: monitors() <= before, 15)
    assert until(lambda: all(task["state"] == "CANCELLED" for task in served.ask("GET", "/v1/tasks").json), 10)
    assert served.ask("GET", "/v1/sandboxes").json == []


def test_a_kept_one_that_nobody_hears_of(served):
    """A client that hangs up before it is told of the kept sandbox that it asked for leaves none."""
    before = monitors()
    with _asked(served, "POST", "/v1/sandboxes", {"keep": True, "name": "unheard"}):
        assert until(lambda: monitors() > before, 10)
    assert until(lambda: monitors() <= before, 15)
    assert until(lambda: served.ask("GET", "/v1/sandboxes/unheard").status == 404, 10)


def _asked(served, method: str, path: str, body: object):
    """A connection over which something is asked, and nothing is read."""
    from aegis_sdk import sockets

    data = json.dumps(body).encode()
    line = sockets.connect(served.socket, timeout=10)
    line.sendall(f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data)
    return line


def test_who_hangs_up_ends_its_command(served, engine):
    """The command of an exec whose client leaves is ended."""
    with aegis.Sandbox(engine=engine) as vm:
        with _asked(served, "POST", f"/v1/sandboxes/{vm.id}/exec", {"command": ["sleep", "1234"]}) as line:
            assert line.recv(12) == b"HTTP/1.1 200"
            assert until(lambda: "1234" in vm.run("ps").stdout, 10)
        assert until(lambda: "1234" not in vm.run("ps").stdout, 10)


@pytest.mark.timeout(60)
def test_a_guest_that_stands_still_slows_nobody(served, engine):
    """With one guest's monitor under SIGSTOP, calls about it may wait; all others are answered within a second."""
    stuck = engine.create(SandboxSpec(name="stuck", keep=True), report=lambda _: None)
    with aegis.Sandbox(engine=engine) as vm:
        os.kill(stuck.pid, signal.SIGSTOP)
        waiting = [_asked(served, "POST", "/v1/sandboxes/stuck/exec", {"command": ["true"]}) for _ in range(30)]
        try:
            assert fastest(lambda: served.ask("GET", "/v1/status").status == 200) < 1
            assert fastest(lambda: len(served.ask("GET", "/v1/sandboxes").json) == 2) < 1
            assert fastest(lambda: served.ask("GET", "/v1/sandboxes/stuck").status == 200) < 1
            assert fastest(lambda: vm.run("true").ok) < 1
        finally:
            for line in waiting:
                line.close()
        assert served.ask("DELETE", "/v1/sandboxes/stuck").status == 200


def fastest(true) -> float:
    """The seconds that it takes at best."""
    times = []
    for _ in range(3):
        began = time.monotonic()
        assert true()
        times.append(time.monotonic() - began)
    return min(times)
