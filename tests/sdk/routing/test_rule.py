"""Who may ask, and where it goes: pure functions of a request's head."""

from __future__ import annotations

import attrs
import pytest

from aegis_sdk.routing.admission import Admission
from aegis_sdk.routing.base import Redirect, Serve, ServedApp, ServedInstance
from aegis_sdk.routing.heads import RequestHead, request_head
from aegis_sdk.routing.refusals import Refuse
from aegis_sdk.routing.rule import BuiltInRule

START = Refuse(404, "nobody knows")


def _app(name: str, *ports: int, served: bool = True) -> ServedApp:
    instance = ServedInstance(id=f"{name}-1", release="v1", ports=ports, awake=True)
    return ServedApp(id=f"id-{name}", name=name, instances=(instance,) if served else ())


WEB, API, JOB, OFF = _app("web", 8000, 9000), _app("api", 3000), _app("job"), _app("off", 80, served=False)
TWO = {"web": WEB, "api": API}


def _head(target: str = "/", *fields: str, host: str = "localhost:8099", method: str = "GET") -> RequestHead:
    raw = "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *fields]) + "\r\n\r\n"
    return request_head(raw.encode("latin-1"))


def _route(target: str, *fields: str, apps=TWO, **options):
    return BuiltInRule().route(_head(target, *fields, **options), apps, START)


SERVED = {
    "by path": (("/app/web/x?y", ()), ("web", 8000, "/app/web")),
    "the other": (("/app/api/", ()), ("api", 3000, "/app/api")),
    "by path and port": (("/app/web:9000/x", ()), ("web", 9000, "/app/web:9000")),
    "its first port": (("/app/web:8000/x", ()), ("web", 8000, "/app/web:8000")),
    "a port by header": (("/app/web/x", ("X-Aegis-Port: 9000",)), ("web", 9000, "/app/web")),
    "the port twice": (("/app/web:9000/x", ("X-Aegis-Port: 9000",)), ("web", 9000, "/app/web:9000")),
    "by header": (("/x", ("x-aegis-app: web",)), ("web", 8000, "")),
    "by header and port": (("/x", ("X-Aegis-App: web", "X-Aegis-Port: 9000")), ("web", 9000, "")),
    "the header before the path": (("/app/api/x", ("X-Aegis-App: web",)), ("web", 8000, "")),
}


@pytest.mark.parametrize("name", SERVED)
def test_what_is_served(name):
    """An app is named by path or by header, a port of it by either; the header has the last word."""
    (target, fields), (app, port, prefix) = SERVED[name]
    decision = _route(target, *fields)
    assert isinstance(decision, Serve)
    assert (decision.app, decision.port, decision.prefix, decision.release) == (app, port, prefix, None)


@pytest.mark.parametrize("host", ["web.localhost:8099", "WEB.localhost:8099", "web.localhost"])
def test_by_host_name(host):
    """NAME.localhost is the app's own, with all its paths."""
    decision = _route("/app/api/", host=host)
    assert isinstance(decision, Serve)
    assert (decision.app, decision.prefix) == ("web", "")


REFUSED = {
    "an unknown app": ("/app/none/", (), 404),
    "no name": ("/app//", (), 404),
    "a name of other case": ("/app/Web/", (), 404),
    "a hidden name": ("/app/%77eb/", (), 404),
    "a way out": ("/app/../web/", (), 404),
    "an unknown app by header": ("/app/web/", ("X-Aegis-App: none",), 404),
    "an empty header": ("/app/web/", ("X-Aegis-App: ",), 404),
    "two headers": ("/", ("X-Aegis-App: web", "X-Aegis-App: api"), 404),
    "a port that is not exposed": ("/app/web:22/", (), 404),
    "a port by header that is not": ("/app/web/", ("X-Aegis-Port: 22",), 404),
    "another number of the same port": ("/app/web:08000/", (), 404),
    "no number": ("/app/web:x/", (), 404),
    "an empty port": ("/app/web:/", (), 404),
    "a port of each kind": ("/app/web:9000/", ("X-Aegis-Port: 8000",), 400),
    "none of two": ("/", (), 404),
    "almost a path": ("/apps/web/", (), 404),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    """What names no app is never served by another one; the answer says what there is."""
    target, fields, status = REFUSED[name]
    decision = _route(target, *fields)
    assert isinstance(decision, Refuse)
    assert decision.status == status


def test_the_list():
    """Who names no app, or an unknown one, gets the list."""
    for decision in (_route("/"), _route("/app/none/"), _route("/", host="none.localhost")):
        assert isinstance(decision, Refuse)
        assert decision.status == 404
        assert "/app/api/, /app/web/" in decision.text
    none = _route("/", apps={})
    assert isinstance(none, Refuse)
    assert "no apps" in none.text


def test_the_only_app():
    """With one app, who names none gets that; who names another one does not."""
    decision = _route("/x", apps={"web": WEB})
    assert isinstance(decision, Serve)
    assert (decision.app, decision.prefix) == ("web", "")
    assert isinstance(_route("/app/api/x", apps={"web": WEB}), Refuse)
    assert isinstance(_route("/x", host="api.localhost", apps={"web": WEB}), Refuse)


def test_a_task_is_no_app_that_is_meant():
    """A task that is exposed is named, and takes nothing from the only app; it is meant where there is no app."""
    task = attrs.evolve(_app("task-1", 8000), task=True)
    assert _route("/x", apps={"task-1": task, "web": WEB}) == _route("/x", apps={"web": WEB})
    assert isinstance(_route("/x", apps={"task-1": task, **TWO}), Refuse)
    for apps in ({"task-1": task}, {"task-1": task, "web": WEB}):
        decision = _route("/x" if len(apps) == 1 else "/app/task-1/", apps=apps)
        assert isinstance(decision, Serve)
        assert decision.app == "task-1"


def test_what_cannot_be_served():
    """An app without ports for HTTP, as one of TCP alone, or that is not served, says so."""
    no_port, not_served = _route("/", apps={"job": JOB}), _route("/app/off/", apps={"off": OFF, **TWO})
    assert isinstance(no_port, Refuse)
    assert (no_port.status, "exposes no port for HTTP" in no_port.text) == (404, True)
    assert isinstance(not_served, Refuse)
    assert (not_served.status, "aegis app serve off" in not_served.text) == (503, True)


@pytest.mark.parametrize(
    ("target", "location"),
    [("/app/web", "/app/web/"), ("/app/web?a", "/app/web/?a"), ("/app/web:9000", "/app/web:9000/")],
)
def test_the_missing_slash(target, location):
    """A page's relative links need the slash, so a browser is sent there."""
    assert _route(target) == Redirect(location)
    assert isinstance(_route(target, method="POST"), Serve)


def test_who_waits():
    """A browser that opens a page is shown soon that the app wakes; anybody else waits."""
    page = _route("/app/web/", "Accept: text/html,*/*")
    assert isinstance(page, Serve)
    assert page.reload
    assert page.wait < 2
    for other in (_route("/app/web/", "Accept: */*"), _route("/app/web/", "Accept: text/html", method="POST")):
        assert isinstance(other, Serve)
        assert (other.reload, other.wait) == (False, 30.0)


ADMISSION = Admission(port=8099, names=frozenset({"box.example", "other.example:8443"}))


@pytest.mark.parametrize(
    "host",
    [
        *("localhost:8099", "localhost", "LOCALHOST:8099", "web.localhost:8099", "127.0.0.1:8099", "127.1.2.3:8099"),
        *("[::1]:8099", "[::1]", "box.example", "box.example:1234", "Box.Example", "other.example:8443"),
    ],
)
def test_own_names(host):
    """The router answers to the loopback's names with its port, and to those that it was given."""
    assert ADMISSION.refusal(_head(host=host)) is None


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8099", "localhost.evil.example", "xlocalhost", "127.0.0.1.evil.example:8099"),
        *("localhost:8098", "127.0.0.1:80", "192.168.1.1:8099", "0.0.0.0:8099", "2130706433:8099", "[::]:8099"),
        *("other.example", "other.example:8444", "sub.box.example", "169.254.169.254", "localhost.:8099"),
    ],
)
def test_foreign_names(host):
    """A name that was made to resolve to this machine gets nothing: 421."""
    refuse = ADMISSION.refusal(_head(host=host))
    assert refuse
    assert refuse.status == 421
    assert "localhost:8099" in refuse.text


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [
        ("http://localhost:3000", True),
        ("http://web.localhost:8099", True),
        ("http://127.0.0.1:8099", True),
        ("http://[::1]:8099", True),
        ("https://box.example", True),
        ("https://other.example:8443", True),
        ("https://evil.example", False),
        ("http://localhost.evil.example", False),
        ("http://localhost:8099.evil.example", False),
        ("http://evil.example:8099", False),
        ("null", False),
        ("", False),
        ("file://", False),
        ("http://localhost:8099, http://evil.example", False),
    ],
)
def test_origins(origin, admitted):
    """A page of another site can neither change anything nor open a WebSocket; to look is for the app to allow."""
    field = f"Origin: {origin}"
    posted = ADMISSION.refusal(_head("/", field, method="POST"))
    upgraded = ADMISSION.refusal(_head("/", field, "Connection: upgrade", "Upgrade: websocket"))
    for refuse in (posted, upgraded):
        assert (refuse is None) == admitted
        assert refuse is None or refuse.status == 403
    assert ADMISSION.refusal(_head("/", field)) is None


def test_no_browser():
    """Who names neither host nor origin is no browser."""
    assert ADMISSION.refusal(request_head(b"POST / HTTP/1.0\r\n\r\n")) is None
