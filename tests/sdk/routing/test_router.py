"""The router as its clients see it: which app answers, and what is said when none does."""

from __future__ import annotations

import socket
import threading
from http.server import SimpleHTTPRequestHandler

import attrs
import httpx
import pytest

import aegis_sdk as aegis
from aegis_sdk.routing.router import Router
from aegis_sdk.routing.rule import BuiltInRule
from tests.sdk.routing.apps import answering, connected, head, rest, saying


def test_two_apps(world, router):
    """Each of two apps is reached by path, by header and by host name, at every port that it exposes."""
    world.add("web", answering(b"web 8000"), answering(b"web 8001"))
    world.add("api", answering(b"api 8000"))
    asked = [
        ("/app/web/", {}, "web 8000"),
        ("/app/web:8001/", {}, "web 8001"),
        ("/app/web/", {"X-Aegis-Port": "8001"}, "web 8001"),
        ("/", {"X-Aegis-App": "web"}, "web 8000"),
        ("/", {"X-Aegis-App": "api", "X-Aegis-Port": "8000"}, "api 8000"),
        ("/app/api/x/y", {}, "api 8000"),
        ("/", {"Host": f"api.localhost:{router.port}"}, "api 8000"),
        ("/app/web/", {"Host": f"api.localhost:{router.port}"}, "api 8000"),
    ]
    with httpx.Client(base_url=router.url) as client:
        for path, headers, expected in asked:
            answer = client.get(path, headers=headers)
            assert (answer.status_code, answer.text) == (200, expected), (path, headers)


def test_no_app(world, router):
    """An unknown name, or none where there are two, is 404 with the list, and never another app."""
    world.add("web", answering(b"web"))
    assert httpx.get(f"{router.url}/").text == "web"
    assert httpx.get(f"{router.url}/app/none/").status_code == 404
    world.add("api", answering(b"api"))
    for path in ("/", "/app/none/", "/app/Web/", "/favicon.ico"):
        answer = httpx.get(f"{router.url}{path}")
        assert answer.status_code == 404
        assert "/app/api/, /app/web/" in answer.text


def test_the_path_and_the_fields(world, router):
    """The app sees its own path, the client's host, and where the request came from."""
    world.add("web", answering())
    asked = {"X-Forwarded-For": "evil", "X_Forwarded_For": "evil", "X-Aegis-Port": "8000", "X-A": "b"}
    seen = httpx.get(f"{router.url}/app/web/a%2Fb/?c=d", headers=asked).text
    assert seen.startswith(f"GET /a%2Fb/?c=d HTTP/1.1\r\nHost: 127.0.0.1:{router.port}\r\n")
    assert "X-Forwarded-For: 127.0.0.1\r\n" in seen
    assert "X-Forwarded-Prefix: /app/web\r\n" in seen
    assert "X-A: b\r\n" in seen
    assert "evil" not in seen
    assert "aegis" not in seen.lower().replace("x-forwarded", "")
    assert "connection" not in seen.lower()


def test_a_redirect(world, router):
    """An app's address without its last slash leads to the one with it."""
    world.add("web", answering(b"web"))
    answer = httpx.get(f"{router.url}/app/web?a=b")
    assert (answer.status_code, answer.headers["location"]) == (307, "/app/web/?a=b")
    assert httpx.get(f"{router.url}/app/web", follow_redirects=True).text == "web"


def test_pythons_own_server(world, router, tmp_path):
    """The server that every Python brings is served, with HTTP/1.0 and with HTTP/1.1, for every method it knows."""
    (tmp_path / "page.html").write_text("a page")

    def serving(version: str):
        class Handler(SimpleHTTPRequestHandler):
            protocol_version = version

            def __init__(self, request):
                super().__init__(request, ("guest", 0), None, directory=str(tmp_path))  # type: ignore[arg-type]

            def log_message(self, *_):
                pass

        return Handler

    world.add("old", serving("HTTP/1.0"))
    world.add("new", serving("HTTP/1.1"))
    for app in ("old", "new"):
        with httpx.Client(base_url=f"{router.url}/app/{app}") as client:
            for _ in range(3):
                assert client.get("/page.html").text == "a page"
                headed = client.head("/page.html")
                assert (headed.headers["content-length"], headed.text) == ("6", "")
                assert client.get("/none.html").status_code == 404
                assert client.post("/page.html", content=b"x").status_code == 501


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8099"])
def test_rebinding(world, router, host):
    """A web page whose name was made to resolve to this machine reaches nothing."""
    world.add("web", answering(b"web"))
    answer = httpx.get(f"{router.url}/app/web/", headers={"Host": host})
    assert answer.status_code == 421
    assert "web" not in answer.text
    assert not world.calls


def test_other_sites(world, route):
    """A page of another site cannot post here; one of a configured name can, and one of this machine."""
    world.add("web", answering(b"web"))
    router = route(names=["box.example"])
    for origin, status in (("https://evil.example", 403), ("https://box.example", 200), ("http://localhost:3000", 200)):
        assert httpx.post(f"{router.url}/app/web/", headers={"Origin": origin}).status_code == status
        assert httpx.get(f"{router.url}/", headers={"Origin": origin, "Host": "box.example"}).status_code == 200


def test_an_app_that_is_not_there(world, router):
    """Nothing listens in the guest: 502, with the port."""
    world.add("web", answering(b"web"))
    world.dial = lambda *_, **__: (_ for _ in ()).throw(ConnectionRefusedError("nothing listens on 127.0.0.1:8000"))
    answer = httpx.get(f"{router.url}/app/web/")
    assert answer.status_code == 502
    assert "nothing listens on 127.0.0.1:8000" in answer.text


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ((), "without an answer"),
        ((b"HTTP/1.1 200",), "within its answer's head"),
        ((b"SSH-2.0-OpenSSH_9\r\n\r\n",), "no HTTP/1.1"),
        ((b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",), "white space before the colon"),
        ((b"HTTP/1.1 200 OK\r\nX: " + 40_000 * b"y",), "larger than"),
        ((b"HTTP/1.1 200 OK\r\n" + 200 * b"X: y\r\n" + b"\r\n",), "200 header fields"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",), "both"),
        ((b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",), "was not asked to"),
    ],
)
def test_an_app_that_answers_nonsense(world, router, said, words):
    """An answer that is none is 502 and says what was wrong with it; the client's connection stays."""
    world.add("bad", saying(*said))
    world.add("good", answering(b"good"))
    with httpx.Client(base_url=router.url) as client:
        answer = client.get("/app/bad/")
        assert answer.status_code == 502
        assert words in answer.text
        assert client.get("/app/good/").text == "good"


def test_words_for_browsers(world, router):
    """A browser gets a page, in which nothing of the request or of an app is taken for HTML; HEAD gets none of it."""
    world.add("web", saying(b"<script>alert(1)</script>\r\n\r\n"))
    page = httpx.get(f"{router.url}/app/web/", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "&lt;script&gt;" in page.text
    assert "<script" not in page.text
    plain = httpx.get(f"{router.url}/app/%3Cscript%3E/")
    assert plain.headers["content-type"].startswith("text/plain")
    assert plain.headers["x-content-type-options"] == "nosniff"
    assert httpx.head(f"{router.url}/app/none/").text == ""


class Wishes:
    """A policy that lets a request choose its release."""

    name = "wishes"

    def route(self, request, _apps, so_far):
        wish = request.header("x-release")
        return attrs.evolve(so_far, release=wish) if wish else so_far


def test_releases(world, route):
    """A policy sends a request to another release than the first; one that is not served is 503."""
    world.add("web", answering(b"old"), release="v1")
    world.add("web", answering(b"new"), release="v2")
    router = route(policies=[Wishes()])
    asked = {None: "new", "v1": "old", "v2": "new"}
    for release, expected in asked.items():
        headers = {"X-Release": release} if release else {}
        assert httpx.get(f"{router.url}/app/web/", headers=headers).text == expected
    answer = httpx.get(f"{router.url}/app/web/", headers={"X-Release": "v3"})
    assert (answer.status_code, "v3 is not served" in answer.text) == (503, True)


def test_a_switch_of_releases(world, router):
    """Requests go to the newest instance from the moment that it is there, and those before end where they are."""

    def slow(connection: socket.socket) -> None:
        head(connection)
        world.add("web", answering(b"new"), release="v2")
        assert httpx.get(f"{router.url}/app/web/").text == "new"
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold")

    world.add("web", slow, release="v1")
    assert httpx.get(f"{router.url}/app/web/").text == "old"


def test_a_fault_of_the_engine(world, router):
    """What fails in the engine is an answer, too, and costs no other request."""
    world.add("web", answering(b"web"))
    snapshot, world.snapshot = world.snapshot, lambda: (_ for _ in ()).throw(KeyError("a key"))
    answer = httpx.get(f"{router.url}/app/web/")
    assert (answer.status_code, "a key" in answer.text) == (500, True)
    world.snapshot = snapshot
    assert httpx.get(f"{router.url}/app/web/").text == "web"


def test_ports(world, router):
    """A port that is taken is an error that says so, or another one; after its end, the router's is free."""
    with pytest.raises(aegis.PortTaken) as taken:
        Router(world, policies=[BuiltInRule()], port=router.port)
    assert str(router.port) in taken.value.message
    with Router(world, policies=[BuiltInRule()], port=router.port, or_any=True) as other:
        assert other.port not in (0, router.port)
        assert other.url == f"http://127.0.0.1:{other.port}"
    with Router(world, policies=[BuiltInRule()], port=other.port):
        pass
    other.close()
    with pytest.raises(aegis.InvalidValue):
        other.expose("web", 8000)


def test_only_on_the_loopback(router):
    """Nobody else's machine reaches the router."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as other:
        other.bind(("127.0.0.2", router.port))  # which a listener on every address would not let


def test_the_end(world, router):
    """Closing the router ends what is under way, and its clients see it."""
    asked = threading.Event()

    def never(connection: socket.socket) -> None:
        head(connection)
        asked.set()
        rest(connection)

    world.add("web", never)
    with connected(router.port) as client:
        client.sendall(f"GET /app/web/ HTTP/1.1\r\nHost: localhost:{router.port}\r\n\r\n".encode())
        assert asked.wait(10)
        router.close()
        assert rest(client) == b""
    assert not world.held.total()
