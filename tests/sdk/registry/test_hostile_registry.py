"""What a registry may do to us, and what comes of it: a clear error or the right bytes, and nothing else touched."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from aegis_sdk.errors import ImageInvalid, ImageNotFound, InvalidValue, RegistryDenied, RegistryFailed
from aegis_sdk.images import digests
from aegis_sdk.images.manifest import LIMIT, OCI_MANIFEST
from tests.sdk.registry.hostile_registry import (
    BLOB,
    CONFIG,
    IMAGE,
    MANIFEST,
    Conversation,
    HostileRegistry,
    cut,
    fetch,
    make_image,
    ranged,
    sends,
    status,
)


def test_an_honest_one(registry, find):
    """An image is found by manifest and config alone; its layer comes when it is fetched."""
    found = find()
    assert [asked.path for asked in registry.asked] == [MANIFEST, CONFIG]
    assert found.reference == f"{registry.host}/a/b:latest"
    assert found.digest == digests.of(IMAGE.manifest)
    assert found.pinned == f"{registry.host}/a/b@{found.digest}"
    assert found.blobs == (IMAGE.layer,)
    assert [layer.digest for layer in found.layers] == [IMAGE.diff_id]
    assert fetch(found)[-1] == len(IMAGE.content)
    assert registry.asked[0].headers["accept-encoding"] == "identity"
    assert registry.asked[0].headers["user-agent"] == "aegis-sdk"
    assert OCI_MANIFEST in registry.asked[0].headers["accept"]


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


def test_a_layer_that_is_missing(registry, pull):
    """A blob that a manifest names and a registry has not is the registry's failure, not an unknown image."""
    registry.on(BLOB, status(404))
    with pytest.raises(RegistryFailed, match="does not have sha256:"):
        pull()


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_busy_registries_are_asked_again(registry, find, pull, patience, code):
    """Too many requests and failures of the server are tried again, for a while."""
    registry.on(MANIFEST, status(code), status(code), sends(IMAGE.manifest, Content_Type=OCI_MANIFEST))
    registry.on(BLOB, status(code), ranged(IMAGE.content))
    pull()
    registry.on(MANIFEST, status(code, b'{"errors": [{"code": "X", "message": "go away"}]}'))
    before = len(registry.asked)
    with pytest.raises(RegistryFailed, match="go away"):
        find()
    assert len(registry.asked) - before == patience.tries


def test_nobody_listens(source):
    """A registry that is not there is told as that, at once."""
    with HostileRegistry() as gone:
        host = gone.host
    with pytest.raises(RegistryFailed, match=f"nothing answers at {host}"):
        source(host).find(f"{host}/a/b", architecture="amd64")


def test_a_cut_connection_is_resumed(registry, pull):
    """After a break only what is missing is asked for."""
    registry.on(BLOB, cut(IMAGE.content, 20_000), ranged(IMAGE.content))
    pull()
    ranges = [asked.headers.get("range") for asked in registry.requests(BLOB)]
    assert ranges == [None, "bytes=20000-"]


def test_a_failed_download_is_resumed_by_the_next(registry, pull):
    """What an ended pull has downloaded serves the next one."""
    registry.on(BLOB, cut(IMAGE.content, 20_000), status(503))
    with pytest.raises(RegistryFailed):
        pull()
    registry.on(BLOB, ranged(IMAGE.content))
    pull()
    assert registry.requests(BLOB)[-1].headers["range"] == "bytes=20000-"


def test_a_registry_without_ranges(registry, pull, tmp_path, patience):
    """A registry that begins anew each time still gives the right bytes, and is left if it never ends."""
    registry.on(BLOB, cut(IMAGE.content, 20_000), sends(IMAGE.content))
    assert 0 in pull()[1:]
    registry.on(BLOB, cut(IMAGE.content, 20_000))
    for path in (tmp_path / "blobs").iterdir():
        path.unlink()
    before = len(registry.requests(BLOB))
    with pytest.raises(RegistryFailed, match="connection"):
        pull()
    assert len(registry.requests(BLOB)) - before == patience.tries


@pytest.mark.parametrize("value", ["bytes 0-9/10", "bytes 20001-51199/51200", "junk", "bytes 20000-20001/*"])
def test_a_wrong_part(registry, pull, value):
    """A part that was not asked for is not used: the blob is asked for from its begin."""
    wrong = status(206, IMAGE.content[20_000:], Content_Range=value)
    registry.on(BLOB, cut(IMAGE.content, 20_000), wrong, sends(IMAGE.content))
    pull()
    assert [asked.headers.get("range") for asked in registry.requests(BLOB)] == [None, "bytes=20000-", None]


def test_a_range_that_is_refused(registry, pull):
    """A registry that cannot give what is missing is asked for all of it."""
    registry.on(BLOB, cut(IMAGE.content, 20_000), status(416), sends(IMAGE.content))
    pull()


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
def test_blobs_that_lie(registry, pull, tmp_path, answer, words):
    """A blob that is longer, shorter or other than its image says is refused, and nothing of it stays."""
    registry.on(BLOB, answer)
    with pytest.raises(ImageInvalid, match=words):
        pull()
    assert list((tmp_path / "blobs").iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, len(IMAGE.content) - 1, len(IMAGE.content) + 1])
def test_sizes_that_lie(registry, pull, tmp_path, size):
    """A manifest that is wrong about a layer's size is refused when the layer comes."""
    registry.publish(make_image(bytes(range(256)) * 200, size=size))
    with pytest.raises(ImageInvalid):
        pull()
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
