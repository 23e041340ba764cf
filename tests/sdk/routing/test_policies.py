"""Routing policies of plugins: the example, installed as a user would; and broken ones, which break a request each."""

from __future__ import annotations

import re
import shutil
import sys
from collections import Counter
from typing import Any

import attrs
import httpx
import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.guarded import GuardedPolicy, WrongError
from aegis_sdk.plugins import Plugins
from aegis_sdk.routing.heads import request_head
from aegis_sdk.routing.rule import BuiltInRule
from tests.conftest import ROOT
from tests.images_made import said
from tests.sdk.routing.apps import answering

REQUEST = request_head(b"GET /app/web/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
SERVE = aegis.Serve(app="web", port=8000, prefix="/app/web")


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The example, installed with pip, and found by this process."""
    source = shutil.copytree(
        ROOT / "examples" / "aegis-canary", tmp_path / "source", ignore=shutil.ignore_patterns("__pycache__")
    )
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    said(*pip, "--no-deps", "--no-index", "--no-build-isolation", "--target", tmp_path / "installed", source)
    monkeypatch.syspath_prepend(tmp_path / "installed")
    yield Plugins.load(Config.from_environment())
    sys.modules.pop("aegis_canary")


@pytest.mark.timeout(60)
def test_the_example(world, route, installed):
    """While two releases are served, some users get the new one, and each always the same one."""
    about = {info.name: info for info in installed.infos}["canary"]
    assert (about.provides, about.error) == (("routing policy canary",), "")
    assert [policy.name for policy in installed.routing_policies] == ["built in", "canary"]
    world.add("web", answering(b"v1"), release="v1")
    router = route(policies=installed.routing_policies[1:])
    with httpx.Client(base_url=f"{router.url}/app/web") as client:
        assert client.get("/", headers={"X-Canary": "always"}).text == "v1"
        world.add("web", answering(b"v2"), release="v2", beside=True)
        assert client.get("/", headers={"X-Canary": "always"}).text == "v2"
        assert client.get("/", headers={"X-Canary": "never"}).text == "v1"
        asked = {user: client.get("/", headers={"X-User": user}).text for user in map(str, range(200))}
        assert 5 < Counter(asked.values())["v2"] < 50
        assert all(client.get("/", headers={"X-User": user}).text == got for user, got in list(asked.items())[:20])
        most = [client.get("/", headers={"X-User": user, "X-Canary-Percent": "100"}).text for user in list(asked)[:20]]
        assert set(most) == {"v2"}
        assert client.get(f"{router.url}/app/none/").status_code == 404


@attrs.frozen
class Policy:
    """A policy that gives, or does, what it is told."""

    gives: Any
    name: Any = "mine"

    def route(self, _request, _apps, _so_far):
        if isinstance(self.gives, BaseException):
            raise self.gives
        return self.gives


GIVEN = {
    "nothing": (None, "must give a Serve, a Redirect or a Refuse, not None"),
    "an exception": (KeyError("a key"), "KeyError: 'a key'"),
    "the end": (SystemExit("gone"), "SystemExit: gone"),
    "no app": (aegis.Serve(app=5, port=80), "Serve.app must be text"),  # type: ignore[arg-type]
    "no port": (aegis.Serve(app="web", port=0), "Serve.port must be a port"),
    "a large port": (aegis.Serve(app="web", port=65536), "Serve.port must be a port"),
    "a wrong release": (aegis.Serve(app="web", port=80, release=1), "Serve.release must be text or None"),  # type: ignore[arg-type]
    "a wrong prefix": (aegis.Serve(app="web", port=80, prefix="/x"), "Serve.prefix must begin the target"),
    "no time": (aegis.Serve(app="web", port=80, wait=float("nan")), "Serve.wait must be seconds"),
    "a line in a location": (aegis.Redirect("/a\r\nSet-Cookie: b"), "Redirect.location must be a path"),
    "another site": (aegis.Redirect("https://evil.example/"), "Redirect.location must be a path"),
    "no error": (aegis.Refuse(200, "fine"), "Refuse.status must be a status from 400 to 599"),
    "no text": (aegis.Refuse(400, None), "Refuse.text must be text"),  # type: ignore[arg-type]
    "a line to retry after": (aegis.Refuse(503, "", retry_after="1\r\nX: y"), "Refuse.retry_after must be seconds"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", GIVEN)
def test_wrong_decisions(name):
    """A policy that fails, or gives what is no decision, has the request refused, with the plugin's name."""
    given, reason = GIVEN[name]
    decision = GuardedPolicy.of(Policy(given), plugin="mine").route(REQUEST, {}, SERVE)
    assert isinstance(decision, aegis.Refuse)
    assert decision.status == 500
    assert decision.text.startswith("the plugin mine failed: ")
    assert reason in decision.text


@pytest.mark.parametrize(
    "given",
    [SERVE, aegis.Redirect("/x?y"), aegis.Refuse(503, "later", retry_after=3), attrs.evolve(SERVE, release="v1")],
)
def test_right_decisions(given):
    """What is a decision passes as it is."""
    assert GuardedPolicy.of(Policy(given), plugin="mine").route(REQUEST, {}, SERVE) is given


@pytest.mark.parametrize("given", [5, Policy, BuiltInRule, Policy(None, name=5)])
def test_what_is_no_policy(given):
    """What lacks a member, is a class or has no name is no policy."""
    with pytest.raises(WrongError, match="routing policy"):
        GuardedPolicy.of(given, plugin="mine")


def test_a_policy_that_names_what_is_not_there(world, route):
    """An app that there is not is 404, a release that is not served 503, a port that is not exposed 404."""
    world.add("web", answering(b"x"))
    for serve, status in (
        (aegis.Serve(app="none", port=80), 404),
        (attrs.evolve(SERVE, release="v9"), 503),
        (attrs.evolve(SERVE, port=1), 404),
    ):
        router = route(policies=[Policy(serve)])
        assert httpx.get(f"{router.url}/app/web/").status_code == status


def test_names_are_words():
    """What the guard says of a wrong decision is short, however long the wrong thing is."""
    text = GuardedPolicy.of(Policy("x" * 10_000), plugin="mine").route(REQUEST, {}, SERVE).text
    assert re.fullmatch(r".{100,300}", text)
