"""How long a registry is waited for, that asks for time, is slow on purpose or silent, and what ends the wait."""

from __future__ import annotations

import socket
import time
from email.utils import formatdate

import pytest

from aegis_sdk.errors import RegistryFailed
from aegis_sdk.images.manifest import OCI_MANIFEST
from aegis_sdk.images.registry.transport import Patience
from tests.sdk.registry.hostile_registry import BLOB, CONFIG, IMAGE, MANIFEST, Conversation, ranged, sends, status

PATIENCE = Patience(connect=1.0, stall=0.4, slowest=2000, tries=2, pause=0.01, longest_wait=2.0, whole=1.0)


@pytest.fixture
def patience() -> Patience:
    """So little that a test can see the end of it."""
    return PATIENCE


@pytest.mark.parametrize("wait", ["1", lambda: formatdate(time.time() + 2, usegmt=True)], ids=["seconds", "date"])
def test_retry_after_is_honoured(registry, find, wait):
    """A registry that says when to come again is asked then, not before."""
    value = wait if isinstance(wait, str) else wait()
    registry.on(MANIFEST, status(429, Retry_After=value), sends(IMAGE.manifest, Content_Type=OCI_MANIFEST))
    begin = time.monotonic()
    find()
    assert 0.9 < time.monotonic() - begin < 2.5


def test_retry_after_too_long(registry, find):
    """A registry that wants more patience than there is fails at once, with its words."""
    registry.on(MANIFEST, status(429, Retry_After="3600"))
    with pytest.raises(RegistryFailed, match="less often for 3600 s"):
        find()
    assert len(registry.requests(MANIFEST)) == 1


def _silent(talk: Conversation) -> None:
    talk.server.registry.closing.wait(30)
    talk.close_connection = True


def _slow_head(talk: Conversation) -> None:
    talk.drip(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 1000, 0.05)


def _slow_body(talk: Conversation) -> None:
    talk.head(200, Content_Length=str(len(IMAGE.content)))
    talk.drip(IMAGE.content, 0.05)


@pytest.mark.parametrize("answer", [_silent, _slow_head, _slow_body])
@pytest.mark.parametrize("path", [MANIFEST, BLOB], ids=["manifest", "layer"])
def test_slow_loris(registry, pull, answer, path):
    """Silence and a trickle, in head or body, are stalls: tried again, and given up."""
    registry.on(path, answer)
    begin = time.monotonic()
    with pytest.raises(RegistryFailed, match="stalled"):
        pull()
    assert time.monotonic() - begin < 2 * PATIENCE.tries * PATIENCE.stall
    assert len(registry.requests(path)) == PATIENCE.tries


def _forever_soon(talk: Conversation) -> None:
    while not talk.server.registry.closing.wait(0.02):
        talk.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 20)


@pytest.mark.parametrize("path", [MANIFEST, BLOB], ids=["manifest", "layer"])
def test_interim_answers_without_end(registry, pull, path):
    """A registry that always promises to go on, at whatever pace, has stalled."""
    registry.on(path, _forever_soon)
    begin = time.monotonic()
    with pytest.raises(RegistryFailed, match=r"stalled: the head of an answer did not end"):
        pull()
    assert time.monotonic() - begin < 3 * PATIENCE.tries * PATIENCE.stall


@pytest.mark.parametrize("path", [MANIFEST, CONFIG], ids=["manifest", "config"])
def test_a_small_answer_that_takes_long(registry, find, path):
    """A manifest or config that comes fast enough to be no stall, but far too slowly for what it is, is given up."""

    def slow(talk: Conversation) -> None:
        talk.head(200, Content_Length="4000000")
        while not talk.server.registry.closing.wait(0.02):
            talk.wfile.write(bytes(200))

    registry.on(path, slow)
    begin = time.monotonic()
    with pytest.raises(RegistryFailed, match="takes too long for a small answer"):
        find()
    assert time.monotonic() - begin < 2 * PATIENCE.whole


def test_a_stall_is_got_over(registry, pull):
    """A download that stalls goes on over another connection."""

    def stall(talk: Conversation) -> None:
        talk.head(200, Content_Length=str(len(IMAGE.content)))
        talk.wfile.write(IMAGE.content[:30_000])
        _silent(talk)

    registry.on(BLOB, stall, ranged(IMAGE.content))
    pull()
    assert registry.requests(BLOB)[-1].headers["range"] == "bytes=30000-"


@pytest.mark.parametrize("answer", [_silent, status(429, Retry_After="2")], ids=["silence", "pause"])
def test_cancelled_while_nothing_comes(registry, find, answer):
    """Who waits for a registry can give up at once, not only when the next bytes come."""
    registry.on(BLOB, answer)
    calls = list[int]()

    def report(count: int) -> None:
        calls.append(count)
        if len(calls) > 2:
            raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        find().layers[0].fetch(report)
    assert time.monotonic() - begin < PATIENCE.stall


def test_a_proxy_that_hangs(source):
    """A proxy that takes a connection and says nothing is what has stalled."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(
            RegistryFailed, match=rf"proxy on the way to registry\.example fails: {address} has stalled"
        ):
            source(environ={"https_proxy": address}).find("registry.example/a/b", architecture="amd64")
