"""The description is true: schemathesis asks the real daemon for everything in it, rightly and wrongly."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests  # schemathesis speaks HTTP by it
import schemathesis
from hypothesis import HealthCheck, settings
from requests.adapters import HTTPAdapter
from schemathesis import GenerationMode, checks
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

import aegis_sdk as aegis
from aegis_daemon import openapi
from aegis_daemon.routes import OPERATIONS
from aegis_sdk import sockets
from aegis_sdk.model import SandboxSpec
from tests.served import Served

#: One that is nowhere, so that what is meant rightly does not boot a guest each time.
_IMAGE = {"image": "nothing-of-that-name:1", "pull": "never"}
# What ends the daemon is tested where it may end.
_SCHEMA = schemathesis.openapi.from_dict(openapi.describe(OPERATIONS, version=aegis.__version__)).exclude(
    path="/v1/end"
)
_asked_for: set[tuple[GenerationMode, str, str]] = set()
_CHECKS = [
    checks.not_a_server_error,
    checks.negative_data_rejection,
    *(
        checks.CHECKS.get_one(name)
        for name in ("status_code_conformance", "content_type_conformance", "response_schema_conformance")
    ),
]


class _Connection(HTTPConnection):
    path: Path

    def connect(self) -> None:
        self.sock = sockets.connect(self.path, timeout=20)


class _Adapter(HTTPAdapter):
    """Has requests go to the daemon's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._pool = HTTPConnectionPool("aegisd")
        self._pool.ConnectionCls = type("ToSocket", (_Connection,), {"path": path})

    def get_connection_with_tls_context(self, *_: object, **__: object) -> HTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()


@pytest.fixture(scope="module")
def asked(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, requests.Session]]:
    """A daemon with something of each kind, and images that may be removed."""
    path = tmp_path_factory.mktemp("described")
    (path / "data").mkdir(mode=0o700)
    (home / "data" / "images").mkdir(mode=0o700, exist_ok=True)
    shutil.copytree(home / "data" / "images", path / "data" / "images")
    served = Served(path)
    served.start()
    served.engine.create(SandboxSpec(name="real", keep=True), report=lambda _: None)
    served.engine.apps.create("real", aegis.AppSpec())
    with requests.Session() as session:
        session.headers["Connection"] = "close"
        session.mount("http://", _Adapter(served.socket))
        yield served, session
    served.stop()


@_SCHEMA.parametrize()
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@pytest.mark.timeout(120)
def test_what_is_described_is_what_is_served(case, asked):
    """Nothing that is asked makes the daemon fail; answers are as described, and what is not so is refused."""
    _, session = asked
    if case.meta.generation.mode is GenerationMode.POSITIVE:
        _make_quick(case)
    else:
        _make_harmless(case)
    _asked_for.add((case.meta.generation.mode, case.method, case.path))
    answer = case.call(base_url="http://aegisd", session=session, timeout=20)
    case.validate_response(answer, checks=_CHECKS)


def _make_harmless(case: Any) -> None:
    """Have a request in which something is wrong boot nothing if that is overlooked; what is wrong stays in it."""
    if isinstance(case.body, dict) and case.path in ("/v1/sandboxes", "/v1/tasks", "/v1/apps", "/v1/apps/{id}"):
        spec = case.body if case.path == "/v1/sandboxes" else case.body.setdefault("sandbox", {})
        for name, value in _IMAGE.items() if isinstance(spec, dict) else ():
            spec.setdefault(name, value)


def _make_quick(case: Any) -> None:
    """Have a request that is meant rightly be about what there is, and take no time."""
    if case.path == "/v1/tasks" and case.method == "POST" and not isinstance(case.body, dict):
        case.body = {}  # which it can do without
    if isinstance(case.body, dict):
        if case.path == "/v1/sandboxes":
            case.body |= _IMAGE
        if case.path in ("/v1/tasks", "/v1/apps", "/v1/apps/{id}"):
            case.body["sandbox"] = {**(case.body.get("sandbox") or {}), **_IMAGE}
        if "pull" in case.path:
            case.body["pull"] = "never"
    if case.method != "DELETE" and case.path.startswith(("/v1/sandboxes/{id}", "/v1/apps/{id}")):
        case.path_parameters["id"] = "real"
    if "timeout" in case.query:
        case.query["timeout"] = 0.1
    case.query.pop("follow", None)


def test_it_still_serves(asked):
    """After all of that the daemon answers, and its log has no fault of its own; both kinds of requests were made."""
    assert {mode for mode, *_ in _asked_for} == {GenerationMode.POSITIVE, GenerationMode.NEGATIVE}
    served, _ = asked
    assert served.engine.status().pid == served.pid
    assert "Traceback" not in served.daemon.log.read_text()
