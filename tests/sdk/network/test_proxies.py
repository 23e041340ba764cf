"""The proxies of this machine's user, for what leaves."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address

import pytest

from aegis_sdk.model import Network
from aegis_sdk.network.gateway import Gateway
from aegis_sdk.network.proxies import Proxy, ProxyInvalid, parse, proxy_for
from tests.outside_world import PRIVATE, PUBLIC, web
from tests.sdk.network.test_gateway import Guest

ADDRESS = ip_address(PUBLIC)
ENVIRON = {"https_proxy": "http://proxy:3128", "ALL_PROXY": "socks5://all"}


def chosen(environ: dict[str, str], port: int = 443, *names: str, address: str = PUBLIC) -> str | None:
    proxy = proxy_for(environ, ip_address(address), port, names)
    return proxy.host if proxy else None


def test_which_proxy():
    """As other programs have it: by the port's scheme, then the one for all."""
    assert chosen({}) is None
    assert chosen(ENVIRON) == "proxy"
    assert chosen(ENVIRON, 22) == "proxy"
    assert chosen(ENVIRON, 80) == "all"
    assert chosen({"HTTPS_PROXY": "http://upper", "https_proxy": ""}) == "upper"


@pytest.mark.parametrize(
    ("words", "spared"),
    [
        *(
            ("*", True),
            ("a.example", True),
            (".example", True),
            ("example", True),
            ("*.example", True),
            ("A.EXAMPLE", True),
        ),
        *(
            ("other, a.example", True),
            (PUBLIC, True),
            ("93.184.0.0/16", True),
            ("a.example:443", True),
            (f"{PUBLIC}:443", True),
        ),
        *(("", False), ("xample", False), ("b.a.example", False), ("93.185.0.0/16", False), ("a.example:80", False)),
        *((f"{PUBLIC}:80", False), ("::/0", False), ("/", False)),
    ],
)
def test_what_no_proxy_spares(words, spared):
    """NO_PROXY has names and what is above them, addresses and blocks, with a port or without."""
    assert (chosen(ENVIRON | {"no_proxy": words}, 443, "a.example") is None) == spared


def test_urls_of_proxies():
    """With user and password, with another port; what is none is refused without showing it."""
    assert parse("http://us%40er:p%3Aw@proxy:8080") == Proxy("proxy", 8080, False, "us@er", "p:w")
    assert parse("proxy:3128") == Proxy("proxy", 3128)
    assert parse("socks5h://[::1]") == Proxy("::1", 1080, True)
    none = ("https://proxy", "ftp://proxy", "http://", "http://user:secret@proxy:port", "http://proxy:99999")
    for url in (*none, "http://user:secret@[::1", "http://user:secret@\u2100:1"):
        with pytest.raises(ProxyInvalid) as refused:
            parse(url)
        assert "secret" not in str(refused.value)


class FakeProxy:
    """A proxy on the loopback, which says what it was asked, and answers as a server would."""

    def __init__(self, story: Callable[[socket.socket], bytes]) -> None:
        self.asked: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._story = story
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                with self._listening.accept()[0] as connected, suppress(OSError):
                    connected.settimeout(10)
                    self.asked.append(self._story(connected))

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@pytest.fixture
def proxy() -> Iterator[Callable[..., FakeProxy]]:
    """Makes proxies."""
    made: list[FakeProxy] = []

    def proxy(story: Callable[[socket.socket], bytes]) -> FakeProxy:
        made.append(FakeProxy(story))
        return made[-1]

    yield proxy
    for each in made:
        each.close()


def through(url: str) -> Iterator[Guest]:
    gateway = Gateway(Network(), environ={"all_proxy": url}, lookup=lambda _: (ip_address("127.0.0.1"),))
    try:
        yield Guest(gateway)
    finally:
        gateway.close()


def by_connect(connected: socket.socket) -> bytes:
    asked = b""
    while not asked.endswith(b"\r\n\r\n"):
        asked += connected.recv(1)
    connected.sendall(b"HTTP/1.1 200 Connected\r\nX: y\r\n\r\n")
    web("by CONNECT")(connected)
    return asked


def by_socks(connected: socket.socket) -> bytes:
    asked = connected.recv(3)
    connected.sendall(b"\5\2")
    asked += connected.recv(99)
    connected.sendall(b"\1\0")
    asked += connected.recv(99)
    connected.sendall(b"\5\0\0\1\0\0\0\0\0\0")
    web("by SOCKS")(connected)
    return asked


def test_connect(proxy):
    """A proxy of HTTP is asked for the address that was judged, never for a name."""
    there = proxy(by_connect)
    for guest in through(f"http://user:word@proxy:{there.port}"):
        guest.resolves("a.example")
        assert guest.fetches(PUBLIC) == b"by CONNECT"
    head = there.asked[0].decode()
    assert head.startswith(f"CONNECT {PUBLIC}:80 HTTP/1.1\r\nHost: {PUBLIC}:80\r\n")
    assert "Basic dXNlcjp3b3Jk\r\n" in head


def test_socks(proxy):
    """And one of SOCKS 5."""
    there = proxy(by_socks)
    for guest in through(f"socks5://user:word@127.0.0.1:{there.port}"):
        assert guest.fetches(PUBLIC) == b"by SOCKS"
    assert there.asked == [b"\5\1\2" + b"\1\4user\4word" + b"\5\1\0\1" + ADDRESS.packed + b"\0\x50"]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 403 Forbidden\r\n\r\n", b"", b"\r\n\r\n", b"x" * 20_000, b"SSH-2.0-x\r\n\r\n"]
)
def test_a_proxy_that_refuses(proxy, answer):
    """What a proxy does not connect is refused, and never dialled past it."""
    there = proxy(lambda connected: (connected.recv(999) and connected.sendall(answer)) or b"")
    for guest in through(f"http://127.0.0.1:{there.port}"):
        with pytest.raises(ConnectionRefusedError, match="proxy"):
            guest.connects(PUBLIC, 80)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ftp://x", "http://"])
def test_a_proxy_that_cannot_be_used(url):
    """A wrong setting is an error, and no way around the proxy."""
    for guest in through(url):
        with pytest.raises(ConnectionRefusedError, match=r"prox"):
            guest.connects(PUBLIC, 80)


def test_the_policy_comes_first(proxy):
    """What is refused is not asked of a proxy either, which may stand elsewhere."""
    there = proxy(by_connect)
    for guest in through(f"http://127.0.0.1:{there.port}"):
        for address in (PRIVATE, "127.0.0.1", "169.254.169.254"):
            with pytest.raises(ConnectionRefusedError):
                guest.connects(address, 80)
    assert not there.asked
