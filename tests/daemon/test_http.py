"""The daemon's HTTP: what it answers, and what it refuses, over its real socket."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import aegis_sdk as aegis
from aegis_daemon.asked import BODY_LIMIT
from aegis_daemon.routes import OPERATIONS
from aegis_sdk import errors, sockets, wire
from aegis_sdk.model import SandboxSpec
from tests.conftest import until
from tests.served import read


def test_it_describes_what_it_serves(served):
    """/openapi.json names each path and method that is served, and no others."""
    described = served.ask("GET", "/openapi.json").json
    told = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert told == {(operation.method, operation.path) for operation in OPERATIONS}
    for method, path in told:
        place = path.replace("{id}", "nothing").replace("{name}", "nothing")
        other = next(word for word in ("PATCH", "TRACE") if word != method)
        refused = served.ask(other, place)
        assert (refused.status, refused.code) == (405, "no-such-method")
        assert method in refused.headers["allow"].split(", ")


def test_an_error_is_json_with_a_code_a_message_and_a_hint(served):
    """Whatever is wrong, the answer is JSON, and its status says whose fault it is."""
    cases: list[tuple[str, str, Any, int, str]] = [
        ("GET", "/", None, 404, "no-such-path"),
        ("GET", "/v1/sandbox", None, 404, "no-such-path"),
        ("GET", "/v1/status/", None, 404, "no-such-path"),
        ("DELETE", "/v1/status", None, 405, "no-such-method"),
        ("GET", "/v1/sandboxes/nothing", None, 404, "sandbox-not-found"),
        ("POST", "/v1/sandboxes/nothing/start", None, 404, "sandbox-not-found"),
        ("GET", "/v1/sandboxes/nothing/logs", None, 404, "sandbox-not-found"),
        ("POST", "/v1/sandboxes/nothing/exec", {"command": ["true"]}, 404, "sandbox-not-found"),
        ("GET", "/v1/tasks/nothing", None, 404, "task-not-found"),
        ("GET", "/v1/tasks/nothing/logs?follow=true", None, 404, "task-not-found"),
        ("GET", "/v1/apps/nothing", None, 404, "app-not-found"),
        ("PUT", "/v1/apps/nothing/secrets/A", {"value": "x"}, 404, "app-not-found"),
        ("DELETE", "/v1/secrets/NOTHING", None, 404, "secret-not-found"),
        ("GET", "/v1/images/info?reference=nothing:1", None, 404, "image-not-found"),
        ("POST", "/v1/apps", {"name": "Not A Name"}, 400, "invalid-value"),
        ("POST", "/v1/apps", {"nam": "a"}, 400, "invalid-value"),
        ("POST", "/v1/apps", [], 400, "invalid-value"),
        ("POST", "/v1/apps", None, 400, "invalid-value"),
        ("GET", "/v1/apps", {"name": "a"}, 400, "invalid-value"),
        ("POST", "/v1/sandboxes", {}, 400, "invalid-value"),
        ("POST", "/v1/sandboxes", {"memory": 1, "keep": True}, 400, "invalid-value"),
        ("POST", "/v1/sandboxes", {"keep": True, "image": "nothing:1", "pull": "never"}, 404, "image-not-found"),
        ("POST", "/v1/sandboxes", {"lease": "made-up"}, 404, "not-found"),
        ("POST", "/v1/sandboxes", {"keep": True, "mounts": [{"source": "x", "target": "/x"}]}, 400, "invalid-value"),
        ("POST", "/v1/tasks", {"command": ["true"], "attached": True}, 400, "invalid-value"),
        ("POST", "/v1/tasks", {"command": ["true"], "app": "a", "app_id": "a"}, 400, "invalid-value"),
        ("POST", "/v1/tasks", {"command": ["true"], "app_id": "nothing"}, 404, "app-not-found"),
        ("POST", "/v1/tasks", {"command": "true"}, 400, "invalid-value"),
    ]
    for method, path, body, status, code in cases:
        answer = served.ask(method, path, body)
        assert (answer.status, answer.code) == (status, code), (method, path, answer.body)
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "query",
    [
        "since=-1",
        "since=one",
        "since=1.5",
        "since=" + "9" * 5000,
        "tail=-1",
        "tail=",
        "follow=yes",
        "follow",
        "follow=true&follow=true",
        "unknown=1",
        "since=%00",
        "since=%ff",
        "&&",
    ],
)
def test_a_query_is_checked(served, query):
    """A parameter that is unknown, given twice, or cannot be meant is refused."""
    answer = served.ask("GET", f"/v1/tasks/nothing/logs?{query}")
    assert (answer.status, answer.code) == (400, "invalid-value")


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "1e9", "1e999"])
def test_a_time_is_checked(served, seconds):
    """Nobody waits for ever, or for less than nothing."""
    answer = served.ask("GET", f"/v1/sandboxes/nothing/ending?timeout={seconds}")
    assert (answer.status, answer.code) == (400, "invalid-value")


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[" * 100_000,
        b'{"name": ' * 100_000,
        b"\xff\xfe",
        b"nan",
        b"{} {}",
        b'{"name": "\\ud800"}',
        b'{"name": ' + b"1" * 100_000 + b"}",
        b'{"name": null}',
    ],
)
def test_a_body_that_is_not_what_it_should_be(served, text):
    """What is no JSON, nested without end, or of a wrong type is refused, and never a fault of the daemon's."""
    answer = served.ask("POST", "/v1/apps", raw=text)
    assert (answer.status, answer.code) == (400, "invalid-value")


def test_a_body_that_is_too_large(served):
    """A body of more than 4 MiB is refused, whether its length is told or not."""
    large = b" " * (BODY_LIMIT + 1)
    told = served.ask("POST", "/v1/apps", raw=large)
    assert (told.status, told.code) == (413, "request-too-large")
    with sockets.connect(served.socket, timeout=10) as line:
        line.sendall(b"POST /v1/apps HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            for _ in range(5):
                line.sendall(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has heard enough
        assert read(line).status == 413


def test_what_is_not_http_costs_nobody_anything(served):
    """Garbage is refused, headers without end too, and others are served meanwhile."""
    with sockets.connect(served.socket, timeout=10) as slow, sockets.connect(served.socket, timeout=10) as wrong:
        slow.sendall(b"GET /v1/status HTTP/1.1\r\nhost:")
        wrong.sendall(b"\x16\x03\x01" + b"garbage\r\n\r\n" * 10)
        assert read(wrong).status == 400
        with sockets.connect(served.socket, timeout=10) as long:
            long.sendall(b"GET /v1/status HTTP/1.1\r\n")
            try:
                for _ in range(60):
                    long.sendall(b"x: " + b"y" * 4096 + b"\r\n")
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert read(long).status in (400, 431)
        assert served.ask("GET", "/v1/status").status == 200


def test_many_who_wait_keep_nobody_waiting(served):
    """While 200 calls wait, others are answered at once; and who stops waiting is forgotten."""
    sandbox = served.engine.create(SandboxSpec(keep=True), report=lambda _: None).id
    lines = []
    try:
        for _ in range(200):
            line = sockets.connect(served.socket, timeout=10)
            lines.append(line)
            line.sendall(f"GET /v1/sandboxes/{sandbox}/ending?timeout=600 HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        threads = _Threads(served.pid)
        assert until(lambda: threads.count() >= 200, 10)
        times = []
        for _ in range(5):
            began = time.monotonic()
            assert served.ask("GET", "/v1/status").status == 200
            times.append(time.monotonic() - began)
        assert min(times) < 1
        for line in lines:
            line.close()
        assert until(lambda: threads.count() < 50, 10)
    finally:
        for line in lines:
            line.close()
        served.engine.remove(sandbox)


class _Threads:
    def __init__(self, pid: int | None) -> None:
        self.path = f"/proc/{pid}/status"

    def count(self) -> int:
        """How many threads it has."""
        with open(self.path) as about:
            return int(next(line.split()[1] for line in about if line.startswith("Threads:")))


def test_a_command_for_who_has_only_curl(served):
    """POST .../exec streams both outputs as they come, bytes too, and ends with how the command ended."""
    sandbox = served.engine.create(SandboxSpec(name="curl", keep=True), report=lambda _: None).id
    try:
        script = "cat; echo error >&2; printf '\\377\\n'; exit 3"
        body = {"command": ["sh", "-c", script], "input": "typed\n", "env": {"A": "b"}}
        answer = served.ask("POST", "/v1/sandboxes/curl/exec", body)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
        *output, last = answer.lines
        assert last["exit"] == {
            "exit_code": 3,
            "signal": None,
            "timed_out": False,
            "out_of_memory": False,
            "out_of_processes": False,
        }
        assert {"stderr": "error\n"} in output
        assert "typed\n" in "".join(line.get("stdout", "") for line in output)
        assert any("stdout_base64" in line for line in output)
        late = served.ask("POST", f"/v1/sandboxes/{sandbox}/exec", {"command": ["sleep", "60"], "timeout": 0.5}).lines
        assert late[-1]["exit"]["timed_out"]
        missing = served.ask("POST", f"/v1/sandboxes/{sandbox}/exec", {"command": ["nix"]}).lines
        assert missing[-1]["exit"]["exit_code"] == 127
    finally:
        served.engine.remove(sandbox)


def test_progress_is_told_in_lines_to_who_asks(served):
    """With `Accept: application/x-ndjson` an import says how far it is, and last what came of it, errors too."""
    lines = {"accept": "application/x-ndjson"}
    answer = served.ask("POST", "/v1/images/pull", {"reference": "base"}, **lines)
    assert answer.status == 200
    assert wire.from_json(answer.lines[-1]["result"], aegis.ImageInfo).reference == "base"
    assert all(set(line) == {"progress"} for line in answer.lines[:-1])
    failed = served.ask("POST", "/v1/images/pull", {"reference": "nothing:1", "pull": "never"}, **lines)
    assert failed.lines[-1]["error"]["code"] == "image-not-found"
    plain = served.ask("POST", "/v1/images/pull", {"reference": "base"})
    assert wire.loads(plain.body, aegis.ImageInfo).reference == "base"


def test_many_writers_at_once(served):
    """Apps made at once by many clients are all there, and of several that want one name, one gets it."""

    def create(name: str) -> int:
        return int(served.ask("POST", "/v1/apps", {"name": name}).status)

    with ThreadPoolExecutor(16) as clients:
        assert list(clients.map(create, (f"app-{number}" for number in range(32)))) == [201] * 32
        assert sorted(clients.map(create, ["wanted"] * 8)) == [201] + [409] * 7
    assert {app["name"] for app in served.ask("GET", "/v1/apps").json} >= {f"app-{number}" for number in range(32)}


def test_each_error_keeps_its_kind(served):
    """Every error of the SDK has a status of its own kind, and none of the caller's faults is the daemon's."""
    from aegis_daemon.refusals import status_of

    assert status_of(errors.InvalidValue("x")) == 400
    assert status_of(errors.StoreFailed("x")) == 503
    assert status_of(errors.AegisError("x")) == 500
    for kind in (errors.TaskNotFound, errors.AppNotFound, errors.SandboxNotFound, errors.ArchitectureNotFound):
        assert status_of(kind("x")) == 404


def test_a_fault_of_its_own_is_not_shown(another, monkeypatch):
    """An unexpected exception is answered with the code `internal`, and its trace is in the log alone."""
    import asyncio

    from starlette.requests import Request

    from aegis_daemon.endpoint import Endpoint
    from aegis_daemon.operations import Operation
    from aegis_daemon.threads import Threads

    def fail(call: object) -> None:
        raise RuntimeError("sesame")

    async def answer() -> tuple[int, bytes]:
        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        operation = Operation(method="GET", path="/x", verb=fail)
        endpoint = Endpoint(None, {"GET": operation}, Threads(1), Threads(1))  # type: ignore[arg-type]
        scope = {"type": "http", "method": "GET", "path": "/x", "headers": [], "query_string": b"", "path_params": {}}
        answered = await endpoint.answer(Request(scope, receive))
        return answered.status_code, bytes(answered.body)

    status, body = asyncio.run(answer())
    assert status == 500
    assert json.loads(body)["error"]["code"] == "internal"
    assert b"sesame" not in body
    assert b"Traceback" not in body


def test_a_follower_that_does_not_read_costs_nobody_anything(served):
    """A client that follows a log and stops reading delays neither the task nor other followers."""
    words = [
        "sh",
        "-c",
        "i=0; while [ $i -lt 20000 ]; do echo $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; i=$((i+1)); done",
    ]
    task = served.ask("POST", "/v1/tasks", {"command": words}).json["id"]
    with sockets.connect(served.socket, timeout=30) as idle:
        idle.sendall(f"GET /v1/tasks/{task}/logs?follow=true HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        followed = served.ask("GET", f"/v1/tasks/{task}/logs?follow=true").lines
        assert served.ask("GET", f"/v1/tasks/{task}/wait?timeout=15").json["state"] == "SUCCEEDED"
    assert [line["sequence"] for line in followed] == list(range(1, len(followed) + 1))
    assert followed[-1]["data"].startswith("19999 ")


def test_followers_take_no_threads(served):
    """Sixty followers of a quiet log take no thread each, and are gone when they leave."""
    task = served.ask("POST", "/v1/tasks", {"command": ["sleep", "300"]}).json["id"]
    threads = _Threads(served.pid)
    assert until(lambda: served.ask("GET", f"/v1/tasks/{task}").json["state"] == "RUNNING", 15)
    before, lines = threads.count(), []
    try:
        for _ in range(60):
            line = sockets.connect(served.socket, timeout=10)
            lines.append(line)
            line.sendall(f"GET /v1/tasks/{task}/logs?follow=true HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        for line in lines:
            assert line.recv(12) == b"HTTP/1.1 200"
        assert until(lambda: threads.count() <= before + 5, 5)
    finally:
        for line in lines:
            line.close()
        served.ask("DELETE", f"/v1/tasks/{task}")
    assert served.ask("GET", f"/v1/tasks/{task}/wait?timeout=15").json["state"] == "CANCELLED"
    assert threading.active_count() < 50
