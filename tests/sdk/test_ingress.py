"""The way in to an engine's guests, with servers of this process in the place of guests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import attrs
import httpx
import pytest

import aegis_sdk as aegis
from aegis_sdk.config import Config
from aegis_sdk.engine.ingress import Ingress
from aegis_sdk.model import Port
from aegis_sdk.routing.base import Asleep, ServedInstance
from aegis_sdk.routing.rule import BuiltInRule
from tests.conftest import until
from tests.sdk.routing.apps import Talk, answering, connected, exactly, rest


@attrs.define
class Records:
    """Which local ports are remembered."""

    ports: dict[tuple[str, int], int] = attrs.field(factory=dict)

    def local_port(self, app: str, port: int) -> int | None:
        return self.ports.get((app, port))

    def remember(self, app: str, port: int, local: int) -> bool:
        if any(known == local for whose, known in self.ports.items() if whose != (app, port)):
            return False
        self.ports[app, port] = local
        return True


@attrs.define(eq=False, slots=False)
class Guest:
    """A host, each of whose connections is a thread that talks over half of a socket pair."""

    id: str
    talk: Talk
    release: str = "v1"
    ports: tuple[int, ...] = (8000,)
    awake: bool = True
    held: int = 0
    threads: list[threading.Thread] = attrs.field(factory=list)

    def served(self) -> ServedInstance:
        return ServedInstance(id=self.id, release=self.release, ports=self.ports, awake=self.awake)

    def hold(self) -> bool:
        self.held += 1
        return self.awake

    def let_go(self) -> None:
        self.held -= 1

    def wake(self) -> None:
        self.awake = True

    def dial(self, port: int, *, timeout: float) -> socket.socket:
        if not self.awake:
            raise Asleep
        if port not in self.ports:
            raise ConnectionRefusedError(f"nothing listens on port {port}")
        ours, theirs = socket.socketpair()
        ours.settimeout(timeout)
        self.threads.append(threading.Thread(target=self._talk, args=(theirs,)))
        self.threads[-1].start()
        return ours

    def _talk(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):
            self.talk(connection)


def _echo(connection: socket.socket) -> None:
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def _made(tmp_path, *, exact: bool = False, records: Records | None = None, port: int = 0) -> Ingress:
    config = Config(home=tmp_path, router_port=port)
    return Ingress(config, policies=lambda: (BuiltInRule(),), records=records or Records(), exact=exact)


@pytest.fixture
def ingress(tmp_path) -> Iterator[Ingress]:
    made = _made(tmp_path)
    yield made
    made.close()


@pytest.fixture
def free() -> int:
    """A port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _get(ingress: Ingress, path: str = "/app/web/", **fields: str) -> httpx.Response:
    return httpx.get(f"{ingress.open()}{path}", headers=fields)


def test_what_is_placed(ingress):
    """An app is known from when it is placed, served while it has hosts, and unknown when it is taken away."""
    assert _get(ingress).status_code == 404
    ingress.place("app_1", "web", ())
    assert (_get(ingress).status_code, "aegis app serve web" in _get(ingress).text) == (503, True)
    ingress.place("app_1", "web", [Guest("one", answering(b"one"))])
    assert (_get(ingress).text, ingress.address("web")) == ("one", f"{ingress.url}/app/web/")
    ingress.place("app_1", "web", [Guest("two", answering(b"two"))])
    assert _get(ingress).text == "two"
    ingress.place("app_2", "other", [Guest("three", answering(b"three"))])
    assert [_get(ingress, "/", **{"X-Aegis-App": name}).text for name in ("web", "other")] == ["two", "three"]
    ingress.take_away("app_1")
    assert (_get(ingress).status_code, _get(ingress, "/").text) == (404, "three")


def test_what_has_changed(ingress):
    """Policies see what a host says of itself once it was said that it has changed, and what is kept until then."""
    guest = Guest("one", answering(b"one"))
    ingress.place("app_1", "web", [guest])
    guest.awake, before = False, ingress._hosts.snapshot()
    assert ingress._hosts.snapshot() is before
    ingress.changed("app_1")
    assert not ingress._hosts.snapshot()["web"].instances[0].awake
    ingress.changed("nothing of that kind")


def test_waking_and_holding(ingress):
    """A request wakes whom it goes to, holds it until it is answered, and lets go of it then."""
    held = []

    def talk(connection):
        held.append(guest.held)
        answering(b"one")(connection)

    guest = Guest("one", talk, awake=False)
    ingress.place("app_1", "web", [guest])
    assert (_get(ingress).text, held, guest.awake) == ("one", [1], True)
    assert until(lambda: guest.held == 0, 5)


def test_who_is_held_is_found(ingress):
    """A host that was replaced while a request is on its way to it is still the one that is woken, and let go of."""

    class Old(Guest):
        def wake(self) -> None:
            ingress.place("app_1", "web", [new])
            self.awake = True

    old, new = Old("old", answering(b"old"), awake=False), Guest("new", answering(b"new"))
    ingress.place("app_1", "web", [old])
    assert [_get(ingress).text for _ in range(2)] == ["old", "new"]
    assert until(lambda: (old.held, new.held) == (0, 0), 5)
    assert not ingress._hosts.hold("old")
    ingress._hosts.let_go("old")
    with pytest.raises(aegis.NotServed, match="serves no more"):
        ingress._hosts.wake("old")


def test_who_is_stopped_while_it_answers(tmp_path):
    """A request under way when its app is stopped is told so, and not that the app cannot be understood."""
    asked, stopped = threading.Event(), threading.Event()

    def talk(connection):
        connection.recv(1 << 16)
        asked.set()
        assert stopped.wait(10)

    ingress = _made(tmp_path, exact=True)
    ingress.place("app_1", "web", [Guest("one", talk)])
    with ThreadPoolExecutor() as pool:
        request = pool.submit(_get, ingress)
        assert asked.wait(10)
        ingress.place("app_1", "web", ())
        stopped.set()
        answer = request.result()
    assert (answer.status_code, "web was stopped before it had answered" in answer.text) == (503, True)
    ingress.close()


def test_replacing_under_load(ingress):
    """Whoever is replaced is asked nothing new once that has returned; no request is refused meanwhile."""
    ingress.place("app_1", "web", [Guest("0", answering(b"0"))])
    url, over, seen = ingress.open(), threading.Event(), []

    def ask() -> None:
        with httpx.Client() as client:
            while not over.is_set():
                seen.append(client.get(f"{url}/app/web/").status_code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(1, 50):
        new = Guest(str(number), answering(str(number).encode()))
        ingress.place("app_1", "web", [new])
        assert set(ingress._hosts._hosts) == {str(number)}
        enough = 2 * number
        assert until(lambda: len(seen) >= enough, 10)  # noqa: B023  # it is asked at once
    over.set()
    for thread in threads:
        thread.join()
    assert set(seen) == {200}


def test_a_port_that_is_taken(tmp_path, free):
    """In a process another one does; where it has to be that one it is refused, and had when it is free again."""
    one, two = _made(tmp_path, port=free, exact=True), _made(tmp_path, port=free)
    with socket.create_server(("127.0.0.1", free)):
        with pytest.raises(aegis.PortTaken, match=str(free)):
            one.open()
        assert (one.url, one.address("web")) == ("", "")
        assert two.open() == two.url != f"http://127.0.0.1:{free}"
        two.close()
    assert one.open() == one.open() == f"http://127.0.0.1:{free}"
    one.close()
    with pytest.raises(aegis.Unavailable, match="closed"):
        one.open()


def test_nothing_to_be_reached(tmp_path, free):
    """In a process nothing listens any more when the last app is served no more; and does again for the next."""
    ingress, web = _made(tmp_path, port=free), Guest("one", answering(b"one"))
    for _ in range(3):
        ingress.place("app_1", "web", [web])
        assert _get(ingress).text == "one"
        assert ingress.url == f"http://127.0.0.1:{free}"
        ingress.place("app_1", "web", ())
        assert not ingress.url
        with pytest.raises(ConnectionRefusedError), connected(free):
            pass
    ingress.close()


def _local(ingress: Ingress, *ports: Port | int | str) -> dict[str, int]:
    exposed = ingress.expose("app_1", [Port.of(port) for port in ports])
    return {port: int(address.removeprefix("127.0.0.1:")) for port, address in exposed.items()}


def test_tcp_ports(ingress, free):
    """Each port that is not HTTP has one of this machine, the one that was asked for or the same as ever."""
    guest = Guest("one", _echo, ports=(8000, 5432, 6379), awake=False)
    with pytest.raises(aegis.NotServed):
        ingress.expose("app_1", [Port.of("5432/tcp")])
    ingress.place("app_1", "db", [guest])
    local = _local(ingress, 8000, "5432/tcp", f"{free}:6379/tcp")
    assert local == {"5432/tcp": local["5432/tcp"], "6379/tcp": free}
    for port in local.values():
        with connected(port) as client:
            client.sendall(b"\0hello")
            assert exactly(client, 6) == b"\0hello"
    assert _local(ingress, "5432/tcp") == {"5432/tcp": local["5432/tcp"]}
    with pytest.raises(ConnectionRefusedError), connected(free):
        pass
    ingress.conceal("app_1")
    with pytest.raises(ConnectionRefusedError), connected(local["5432/tcp"]):
        pass
    assert _local(ingress, "5432/tcp") == {"5432/tcp": local["5432/tcp"]}
    ingress.take_away("app_1")
    with pytest.raises(ConnectionRefusedError), connected(local["5432/tcp"]):
        pass


def test_a_tcp_port_that_is_taken(ingress, free):
    """It is refused, and what was exposed before is so still."""
    ingress.place("app_1", "db", [Guest("one", _echo, ports=(5432, 6379))])
    before = _local(ingress, "5432/tcp")
    with socket.create_server(("127.0.0.1", free)), pytest.raises(aegis.PortTaken, match=str(free)):
        _local(ingress, "6379/tcp", f"{free}:5432/tcp")
    with connected(before["5432/tcp"]) as client:
        client.shutdown(socket.SHUT_WR)
        assert rest(client) == b""
    assert _local(ingress, "5432/tcp") == before


@pytest.mark.parametrize("exact", [False, True])
def test_a_remembered_port(tmp_path, exact):
    """A port on record is taken again; if somebody else has it, the daemon refuses, and a process takes another."""
    records = Records()
    seen = []
    for _ in range(2):
        ingress = _made(tmp_path, exact=exact, records=records)
        ingress.place("app_1", "db", [Guest("one", _echo, ports=(5432,))])
        seen.append(_local(ingress, "5432/tcp")["5432/tcp"])
        ingress.close()
    assert seen == [seen[0]] * 2 == [records.ports["app_1", 5432]] * 2
    ingress = _made(tmp_path, exact=exact, records=records)
    ingress.place("app_1", "db", [Guest("one", _echo, ports=(5432,))])
    with socket.create_server(("127.0.0.1", seen[0])):
        if exact:
            with pytest.raises(aegis.PortTaken):
                _local(ingress, "5432/tcp")
        else:
            assert _local(ingress, "5432/tcp") != {"5432/tcp": seen[0]}
    ingress.close()
    assert records.ports == {("app_1", 5432): seen[0]}


def test_a_port_of_another_app(tmp_path):
    """A port that is remembered for one app is not given to another, also while nobody listens there."""
    records = Records()
    ingress = _made(tmp_path, records=records)
    ingress.place("app_1", "db", [Guest("one", _echo, ports=(5432,))])
    local = _local(ingress, "5432/tcp")["5432/tcp"]
    ingress.take_away("app_1")
    records.ports = {("app_2", 5432): records.ports.pop(("app_1", 5432))}
    ingress.place("app_1", "db", [Guest("one", _echo, ports=(5432,))])
    assert _local(ingress, "5432/tcp")["5432/tcp"] == records.ports["app_1", 5432] != local
    ingress.close()


def test_what_is_not_remembered(tmp_path):
    """What has no record, as a task, leaves none."""
    records = Records()
    ingress = _made(tmp_path, records=records)
    ingress.place("1234", "task-1234", [Guest("task", _echo, ports=(5432,))])
    assert ingress.expose("1234", [Port.of("5432/tcp")], remembered=False)
    assert not records.ports
    ingress.close()
