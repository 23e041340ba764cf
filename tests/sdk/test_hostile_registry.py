"""What a registry may do to us, and what comes of it: a clear error or the right bytes, and nothing else touched."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from aegis_sdk.errors import ImageInvalid, ImageNotFound, InvalidValue, RegistryDenied, RegistryFailed
from aegis_sdk.images import digests
from aegis_sdk.images.base import FoundImage
from aegis_sdk.images.manifest import LIMIT, OCI_MANIFEST
from aegis_sdk.images.registry.source import RegistrySource
from aegis_sdk.images.registry.transport import Patience
from tests.sdk.hostile_registry import Conversation, HostileRegistry, cut, make_image, ranged, sends, status

IMAGE = make_image(bytes(range(256)) * 200)
MANIFEST = "/v2/a/b/manifests/latest"
BLOB = f"/v2/a/b/blobs/{IMAGE.layer}"
CONFIG = f"/v2/a/b/blobs/{next(iter(IMAGE.blobs))}"
PATIENCE = Patience(connect=1.0, stall=0.4, slowest=2000, tries=3, pause=0.01, longest_wait=2.0, whole=1.0)
SECRET = "gr33n"


@pytest.fixture
def registry() -> Iterator[HostileRegistry]:
    """A registry that offers one image, honestly at first."""
    with HostileRegistry() as registry:
        registry.publish(IMAGE)
        yield registry


@pytest.fixture
def source(registry: HostileRegistry, tmp_path: Path) -> Callable[..., RegistrySource]:
    """Makes sources of their own; *hosts* are spoken to in the clear, too."""

    def source(*hosts: str, environ: dict[str, str] | None = None) -> RegistrySource:
        return RegistrySource(
            tmp_path / "blobs",
            environ={"HOME": str(tmp_path), **(environ or {})},
            plain_http=frozenset({registry.host, *hosts}),
            patience=PATIENCE,
        )

    return source


@pytest.fixture
def find(registry: HostileRegistry, source) -> Callable[[], FoundImage]:
    """Finds the registry's image."""
    return lambda: source().find(f"{registry.host}/a/b", architecture="amd64")


def _fetch(found: FoundImage) -> list[int]:
    seen = list[int]()
    found.layers[0].fetch(seen.append)
    assert [entry.path for entry in found.layers[0].entries()] == [b"greeting"]
    return seen


def test_an_honest_one(registry, find):
    """An image is found by manifest and config alone; its layer comes when it is fetched."""
    found = find()
    assert [asked.path for asked in registry.asked] == [MANIFEST, CONFIG]
    assert found.reference == f"{registry.host}/a/b:latest"
    assert found.digest == digests.of(IMAGE.manifest)
    assert found.pinned == f"{registry.host}/a/b@{found.digest}"
    assert found.blobs == (IMAGE.layer,)
    assert [layer.digest for layer in found.layers] == [IMAGE.diff_id]
    assert _fetch(found)[-1] == len(IMAGE.content)
    assert registry.asked[0].headers["accept-encoding"] == "identity"
    assert registry.asked[0].headers["user-agent"] == "aegis-sdk"
    assert OCI_MANIFEST in registry.asked[0].headers["accept"]


# What is not there, and what goes wrong in good faith


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (status(404), ImageNotFound, "was not found"),
        (status(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no tag"}]}'), ImageNotFound, "no tag"),
        (status(400, b'{"errors": [{"code": "NAME_UNKNOWN"}]}'), ImageNotFound, "was not found"),
        (status(403, b'{"errors": [{"code": "DENIED", "message": "not you"}]}'), RegistryDenied, "not you"),
        (status(401), RegistryFailed, "ways unknown here"),
        (status(401, WWW_Authenticate='Basic realm="x"'), RegistryDenied, "user and a password"),
        (status(401, WWW_Authenticate='Digest realm="x"'), RegistryFailed, "offered: digest"),
        (status(418, b"\x1b[31m<html>"), RegistryFailed, "status 418$"),
        (status(418, b'{"errors": [{"message": "\\u001b[31m' + b"x" * 9999 + b'"}]}'), RegistryFailed, "\ufffd.31mxxx"),
        (status(500, b"[" * 60_000), RegistryFailed, "out of order: HTTP status 500"),
        (status(200), ImageInvalid, "JSON"),
        (status(206, IMAGE.manifest), RegistryFailed, "status 206"),
        (status(416, IMAGE.manifest), RegistryFailed, "status 416"),
        (status(302), RegistryFailed, "redirects"),
    ],
)
def test_refusals(registry, find, answer, error, words):
    """A refusal becomes the error that fits, with the registry's words, printable and short."""
    registry.on(MANIFEST, answer)
    with pytest.raises(error, match=words) as caught:
        find()
    assert type(caught.value) is error
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_layer_that_is_missing(registry, find):
    """A blob that a manifest names and a registry has not is the registry's failure, not an unknown image."""
    registry.on(BLOB, status(404))
    with pytest.raises(RegistryFailed, match="does not have sha256:"):
        _fetch(find())


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_busy_registries_are_asked_again(registry, find, code):
    """Too many requests and failures of the server are tried again, for a while."""
    registry.on(MANIFEST, status(code), status(code), sends(IMAGE.manifest, Content_Type=OCI_MANIFEST))
    registry.on(BLOB, status(code), ranged(IMAGE.content))
    _fetch(find())
    registry.on(MANIFEST, status(code, b'{"errors": [{"code": "X", "message": "go away"}]}'))
    before = len(registry.asked)
    with pytest.raises(RegistryFailed, match="go away"):
        find()
    assert len(registry.asked) - before == PATIENCE.tries


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


def test_nobody_listens(source):
    """A registry that is not there is told as that, at once."""
    with HostileRegistry() as gone:
        host = gone.host
    with pytest.raises(RegistryFailed, match=f"nothing answers at {host}"):
        source(host).find(f"{host}/a/b", architecture="amd64")


# Downloads


def test_a_cut_connection_is_resumed(registry, find):
    """After a break only what is missing is asked for."""
    registry.on(BLOB, cut(IMAGE.content, 20_000), ranged(IMAGE.content))
    _fetch(find())
    ranges = [asked.headers.get("range") for asked in registry.requests(BLOB)]
    assert ranges == [None, "bytes=20000-"]


def test_a_failed_download_is_resumed_by_the_next(registry, find):
    """What an ended pull has downloaded serves the next one."""
    registry.on(BLOB, cut(IMAGE.content, 20_000), status(503))
    with pytest.raises(RegistryFailed):
        _fetch(find())
    registry.on(BLOB, ranged(IMAGE.content))
    _fetch(find())
    assert registry.requests(BLOB)[-1].headers["range"] == "bytes=20000-"


def test_a_registry_without_ranges(registry, find, tmp_path):
    """A registry that begins anew each time still gives the right bytes, and is left if it never ends."""
    registry.on(BLOB, cut(IMAGE.content, 20_000), sends(IMAGE.content))
    assert 0 in _fetch(find())[1:]
    registry.on(BLOB, cut(IMAGE.content, 20_000))
    for path in (tmp_path / "blobs").iterdir():
        path.unlink()
    before = len(registry.requests(BLOB))
    with pytest.raises(RegistryFailed, match="connection"):
        _fetch(find())
    assert len(registry.requests(BLOB)) - before == PATIENCE.tries


@pytest.mark.parametrize("value", ["bytes 0-9/10", "bytes 20001-51199/51200", "junk", "bytes 20000-20001/*"])
def test_a_wrong_part(registry, find, value):
    """A part that was not asked for is not used: the blob is asked for from its begin."""
    wrong = status(206, IMAGE.content[20_000:], Content_Range=value)
    registry.on(BLOB, cut(IMAGE.content, 20_000), wrong, sends(IMAGE.content))
    _fetch(find())
    assert [asked.headers.get("range") for asked in registry.requests(BLOB)] == [None, "bytes=20000-", None]


def test_a_range_that_is_refused(registry, find):
    """A registry that cannot give what is missing is asked for all of it."""
    registry.on(BLOB, cut(IMAGE.content, 20_000), status(416), sends(IMAGE.content))
    _fetch(find())


def _endless(talk: Conversation) -> None:
    talk.head(200, Connection="close")
    while not talk.server.registry.closing.is_set():
        talk.wfile.write(bytes(1 << 16))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (sends(IMAGE.content + b"x"), "bytes at its registry"),
        (sends(IMAGE.content[:-1]), "bytes at its registry"),
        (sends(IMAGE.content[:-1] + b"x"), "not what its digest names"),
        (_endless, "more than the"),
    ],
)
def test_blobs_that_lie(registry, find, tmp_path, answer, words):
    """A blob that is longer, shorter or other than its image says is refused, and nothing of it stays."""
    registry.on(BLOB, answer)
    with pytest.raises(ImageInvalid, match=words):
        _fetch(find())
    assert list((tmp_path / "blobs").iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, len(IMAGE.content) - 1, len(IMAGE.content) + 1])
def test_sizes_that_lie(registry, find, tmp_path, size):
    """A manifest that is wrong about a layer's size is refused when the layer comes."""
    registry.publish(make_image(bytes(range(256)) * 200, size=size))
    with pytest.raises(ImageInvalid):
        _fetch(find())
    assert list((tmp_path / "blobs").iterdir()) == []


@pytest.mark.parametrize("digest", ["sha256:../../x", "../../etc/passwd", "sha256:0"])
def test_a_digest_is_never_a_path(registry, find, tmp_path, digest):
    """A manifest with a digest that is none is refused before anything is asked for by it."""
    layers = [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": 5}]
    registry.publish(make_image(layers=layers))
    with pytest.raises(ImageInvalid, match="is no digest"):
        find()
    assert not any("passwd" in asked.path or ".." in asked.path for asked in registry.asked)
    assert not (tmp_path / "blobs").exists()


def test_a_digest_holds_for_manifests(registry, source):
    """What a registry gives for a digest must have it."""
    digest = digests.of(b"other")
    registry.on(f"/v2/a/b/manifests/{digest}", sends(IMAGE.manifest, Content_Type=OCI_MANIFEST))
    with pytest.raises(ImageInvalid, match="digest"):
        source().find(f"{registry.host}/a/b@{digest}", architecture="amd64")


def test_schema_1_is_refused_in_words(registry, find):
    """Docker's oldest manifests, which no digest protects, are not taken for anything else."""
    schema_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    registry.on(MANIFEST, sends(b'{"schemaVersion": 1, "name": "x", "fsLayers": []}', Content_Type=schema_1))
    with pytest.raises(ImageInvalid, match="schema 1"):
        find()


def test_a_huge_manifest(registry, find):
    """A manifest above the limit is refused without being read to its end, whatever it announces."""
    for answer in (sends(bytes(LIMIT + 1)), _endless):
        registry.on(MANIFEST, answer)
        with pytest.raises(ImageInvalid, match="larger than 4 MiB"):
            find()


def test_a_manifest_that_is_cut(registry, find):
    """A manifest that breaks off is asked for again."""
    registry.on(MANIFEST, cut(IMAGE.manifest, 50), sends(IMAGE.manifest, Content_Type=OCI_MANIFEST))
    find()
    registry.on(MANIFEST, cut(IMAGE.manifest, 50))
    with pytest.raises(RegistryFailed):
        find()


# Registries that are slow on purpose


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
def test_slow_loris(registry, find, answer, path):
    """Silence and a trickle, in head or body, are stalls: tried again, and given up."""
    registry.on(path, answer)
    begin = time.monotonic()
    with pytest.raises(RegistryFailed, match="stalled"):
        _fetch(find())
    assert time.monotonic() - begin < 2 * PATIENCE.tries * PATIENCE.stall
    assert len(registry.requests(path)) == PATIENCE.tries


def _forever_soon(talk: Conversation) -> None:
    while not talk.server.registry.closing.wait(0.02):
        talk.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 20)


@pytest.mark.parametrize("path", [MANIFEST, BLOB], ids=["manifest", "layer"])
def test_interim_answers_without_end(registry, find, path):
    """A registry that always promises to go on, at whatever pace, has stalled."""
    registry.on(path, _forever_soon)
    begin = time.monotonic()
    with pytest.raises(RegistryFailed, match=r"stalled: the head of an answer did not end"):
        _fetch(find())
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


def test_a_stall_is_got_over(registry, find):
    """A download that stalls goes on over another connection."""

    def stall(talk: Conversation) -> None:
        talk.head(200, Content_Length=str(len(IMAGE.content)))
        talk.wfile.write(IMAGE.content[:30_000])
        _silent(talk)

    registry.on(BLOB, stall, ranged(IMAGE.content))
    _fetch(find())
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


def test_two_processes_fetch_once(registry, find, source, tmp_path):
    """Two processes that pull one image at once download its layer once."""

    def slow(talk: Conversation) -> None:
        talk.head(200, Content_Length=str(len(IMAGE.content)))
        for at in range(0, len(IMAGE.content), 1024):
            talk.wfile.write(IMAGE.content[at : at + 1024])
            time.sleep(0.01)

    registry.on(BLOB, slow)
    script = f"""
from pathlib import Path
from aegis_sdk.images.registry.source import RegistrySource
source = RegistrySource(Path({str(tmp_path / "blobs")!r}), environ={{}}, plain_http=frozenset({{{registry.host!r}}}))
source.find({registry.host + "/a/b"!r}, architecture="amd64").layers[0].fetch(lambda count: None)
"""
    both = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    assert [process.wait(15) for process in both] == [0, 0]
    assert len(registry.requests(BLOB)) == 1


def test_misspelled_references(source):
    """The source claims what no other does, and says what is wrong with it."""
    assert [source().claims(text) for text in ("alpine", "Alpine", "a.b/c:d", "./x")] == [True] * 4
    assert not any(source().claims(text) for text in ("base", "oci:x", "docker-archive:x", "dir:x"))
    for text in ("Alpine", "./x"):
        with pytest.raises(InvalidValue):
            source().canonical(text)
