"""Apps by HTTP alone, as a program without our SDK has them."""

from __future__ import annotations

import pytest

HTTPD = ["httpd", "-f", "-p", "127.0.0.1:8000"]


@pytest.mark.timeout(60)
def test_an_app_by_http(served):
    """Created, published, served, looked into, stopped and deleted, each by one request."""
    made = served.ask("POST", "/v1/apps", {"name": "shop", "command": HTTPD, "expose": [{"number": 8000}]})
    assert (made.status, made.json["spec"]["expose"][0]["protocol"]) == (201, "http")
    updated = served.ask("PUT", "/v1/apps/shop", {"command": HTTPD, "expose": [{"number": 8000}], "idle": 5})
    assert (updated.status, updated.json["spec"]["idle"]) == (200, 5)
    ndjson = {"accept": "application/x-ndjson"}
    lines = served.ask("POST", "/v1/apps/shop/releases", {"label": "v1"}, **ndjson).lines
    release = lines[-1]["result"]
    assert (release["label"], release["number"], release["app"]) == ("v1", 1, made.json["id"])
    assert served.ask("GET", "/v1/apps/shop/releases").json == [release]
    taken = served.ask("POST", "/v1/apps/shop/releases", {"label": "v1"})
    assert (taken.status, taken.code) == (409, "name-taken")
    idle = served.ask("POST", "/v1/apps/shop/wake")
    assert (idle.status, idle.code) == (409, "not-served")

    instance = served.ask("POST", "/v1/apps/shop/serve", {"release": "v1"}).json
    assert (instance["state"], instance["name"], instance["release"]) == ("RUNNING", "shop", release["id"])
    assert served.ask("GET", "/v1/apps/shop/instances").json == served.ask("GET", "/v1/instances").json == [instance]
    assert served.ask("POST", "/v1/apps/shop/wake").json == instance
    said = served.ask("POST", "/v1/apps/shop/exec", {"command": ["sh", "-c", "echo looked; exit 3"]}).lines
    assert (said[0], said[-1]["exit"]["exit_code"]) == ({"stdout": "looked\n"}, 3)
    log = served.ask("GET", "/v1/apps/shop/logs?release=v1").lines
    assert [entry["data"] for entry in log if entry["source"] == "exec"] == ["looked\n"]

    assert served.ask("POST", "/v1/apps/shop/stop").status == 204
    assert served.ask("GET", "/v1/instances").json == []
    assert served.ask("GET", "/v1/apps/shop/logs?tail=1").lines[0]["source"] == "system"
    assert served.ask("DELETE", "/v1/apps/shop").status == 204
    gone = served.ask("GET", "/v1/apps/shop/releases")
    assert (gone.status, gone.code) == (404, "app-not-found")


def test_what_is_refused(served):
    """What cannot be meant is named with its place; a release that is not there is 404."""
    for body, words in (
        ({"name": "shop", "expose": [{"number": 0}]}, "expose.0: "),
        ({"name": "shop", "expose": ["8000"]}, "expose.0: "),
        ({"name": "shop", "idle": -1}, "idle"),
        ({"name": "shop", "exposed": []}, "exposed: there is no such field"),
        ({"name": "shop", "image": "base"}, "image: there is no such field"),
        ({"name": "Shop"}, "cannot be a name"),
    ):
        wrong = served.ask("POST", "/v1/apps", body)
        assert (wrong.status, words in wrong.json["error"]["message"]) == (400, True), wrong.json
    served.ask("POST", "/v1/apps", {"name": "empty"})
    for path, body in (("serve", {}), ("serve", {"release": "v9"}), ("stop", {"release": "v9"})):
        missing = served.ask("POST", f"/v1/apps/empty/{path}", body)
        assert (missing.status, missing.code) == (404, "release-not-found")
    assert served.ask("POST", "/v1/apps/empty/releases", {"label": 1}).status == 400
    assert served.ask("DELETE", "/v1/apps/empty").status == 204
