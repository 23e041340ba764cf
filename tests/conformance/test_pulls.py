"""What a pull asks for, what comes of it, and what it gets over."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

import pytest

import aegis_sdk as aegis
from tests.conftest import AEGIS, until
from tests.images_made import FOREIGN, GUEST, skopeo
from tests.images_world import disks, taken

pytestmark = pytest.mark.timeout(60)  # Python in software emulation, on a busy machine

LAYERS = 3  # of the image python


def _layers_fetched(heard: list[str], manifest: dict[str, Any]) -> list[str]:
    digests = {layer["digest"] for layer in manifest["layers"]}
    return [digest for line in heard if line.startswith("GET") and (digest := line.rpartition("/")[2]) in digests]


def test_what_is_known_of_an_image(registry, images, empty_home):
    """A pulled image is listed with its full name, digest, settings, layers and sizes."""
    before = time.time()
    pulled = aegis.Image.pull(registry.name("python:1"))
    assert [image.reference for image in aegis.Image.list()] == [registry.name("python:1")]
    info = aegis.Image.get(registry.name("python:1")).info
    assert info == pulled.info
    assert (info.digest, info.architecture) == (images.digest("python"), GUEST)
    config = images.json(images.manifest("python")["config"]["digest"])
    assert info.created == config["created"]
    assert [layer.digest for layer in info.layers] == config["rootfs"]["diff_ids"]
    assert [layer.size for layer in info.layers] == [layer["size"] for layer in images.manifest("python")["layers"]]
    assert info.config.env == {"PATH": "/usr/bin:/srv", "GREETING": "hello from the image", "EMPTY": ""}
    assert (info.config.cwd, info.config.user) == ("/app/below", "")
    assert info.config.entrypoint == ("python3", "-u")
    assert info.config.command == ("-c", "print('nothing was asked for')")
    assert before <= info.pulled <= info.used <= time.time()
    (disk,) = disks(empty_home)
    assert 0 < info.disk_bytes <= disk.stat().st_blocks * 512


def test_a_cached_image_needs_no_network(registry, boot):
    """Booting what is here asks nobody anything."""
    aegis.Image.pull(registry.name("hello:1"))
    with registry.listening() as heard:
        boot(image=registry.name("hello:1"))
        boot(image=registry.name("hello:1"), pull="never")
        aegis.Image.pull(registry.name("hello:1"), policy="missing")
        assert aegis.Image.get(registry.name("hello:1"))
    assert heard == []


def test_always_asks(registry, images, empty_home):
    """A pull asks what its name means now, and fetches no layer that is here."""
    aegis.Image.pull(registry.name("python:1"))
    with registry.listening() as heard:
        aegis.Image.pull(registry.name("python:1"))
    assert any("/manifests/" in line for line in heard)
    assert not _layers_fetched(heard, images.manifest("python"))


def test_never_asks(registry, empty_home):
    """Who wants no network gets what is here, or an error, and no request is made."""
    with registry.listening() as heard, pytest.raises(aegis.ImageNotFound, match="hello:1"):
        aegis.Image.pull(registry.name("hello:1"), policy="never")
    assert heard == []


def test_two_tags_of_one_image_share_everything(registry, images, empty_home):
    """A second tag of an image costs no layer and no disk; it stays when the first one is removed."""
    first = aegis.Image.pull(registry.name("python:1"))
    before = disks(empty_home)
    with registry.listening() as heard:
        second = aegis.Image.pull(registry.name("python:same"))
    assert not _layers_fetched(heard, images.manifest("python"))
    assert disks(empty_home) == before
    assert second.info.digest == first.info.digest
    first.remove()
    assert disks(empty_home) == before
    assert [image.reference for image in aegis.Image.list()] == [second.reference]


@pytest.mark.in_process
@pytest.mark.parametrize("tag", ["python", "odd"])
def test_one_disk_whatever_way_an_image_came(registry, images, tag, empty_home, monkeypatch):
    """From a registry, as Docker's format and as zstd, from an OCI layout and from docker save: the same bytes."""
    work = empty_home.parent
    archive = f"docker-archive:{work / 'saved.tar'}"
    skopeo(images.reference(tag), f"{archive}:{tag}:1")
    roads = [
        registry.name(f"{tag}:1"),
        registry.push(tag, f"{tag}-docker:1", "--format", "v2s2"),
        registry.push(tag, f"{tag}-zstd:1", "--dest-compress-format", "zstd"),
        images.reference(tag),
        archive,
    ]
    for reference in roads:
        aegis.Image.pull(reference)
        assert len(disks(empty_home)) == 1, reference
    found: list[str] = []
    for number, reference in enumerate(roads):
        home = work / f"home-{number}"
        monkeypatch.setenv("AEGIS_HOME", str(home))
        aegis.Image.pull(reference)
        found += disks(home).values()
    assert len(found) == len(roads)
    assert len(set(found)) == 1


@pytest.mark.parametrize("name", ["foreign:1", "foreign-index:1"])
def test_another_architecture(registry, images, empty_home, name):
    """An image for other machines is refused by what it is for, before any layer is fetched."""
    with registry.listening() as heard, pytest.raises(aegis.ArchitectureNotFound) as caught:
        aegis.Image.pull(registry.name(name))
    message = f"no linux/{GUEST} variant found in {registry.name(name)} (has: linux/{FOREIGN})"
    assert caught.value.message == message
    assert heard
    assert not _layers_fetched(heard, images.manifest("foreign"))
    assert not aegis.Image.list()


@pytest.mark.parametrize("policy", ["always", "missing"])
def test_a_truncated_disk_is_made_again(registry, empty_home, policy):
    """A disk that lost its end is noticed before anything boots from it."""
    image = aegis.Image.pull(registry.name("python:1"))
    ((path, digest),) = disks(empty_home).items()
    path.chmod(0o600)
    os.truncate(path, path.stat().st_size // 2)
    aegis.Image.pull(image.reference, policy=policy)
    assert disks(empty_home) == {path: digest}


@pytest.mark.parametrize(("times_kept", "policy"), [(True, "always"), (False, "always"), (False, "missing")])
def test_a_changed_disk_is_made_again(registry, empty_home, times_kept, policy):
    """A disk that was written to is noticed; a pull notices bytes that have changed, even if no time has."""
    image = aegis.Image.pull(registry.name("python:1"))
    ((path, digest),) = disks(empty_home).items()
    before = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(before.st_size // 2)
        file.write(bytes(byte ^ 255 for byte in file.read(1)))
    if times_kept:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    aegis.Image.pull(image.reference, policy=policy)
    assert disks(empty_home) == {path: digest}


def test_a_changed_layer_is_fetched_again(registry, empty_home):
    """A kept layer that has changed, or lost its end, is not what a disk is made of."""
    image = aegis.Image.pull(registry.name("python:1"))
    ((path, digest),) = disks(empty_home).items()
    path.unlink()
    kept = sorted(blob for blob in empty_home.rglob("*") if blob.is_file() and blob.read_bytes()[:2] == b"\x1f\x8b")
    for number, blob in enumerate(kept):
        blob.chmod(0o600)
        if number % 2:
            os.truncate(blob, blob.stat().st_size // 2)
        else:
            blob.write_bytes(bytes(reversed(blob.read_bytes())))
    aegis.Image.pull(image.reference)
    assert disks(empty_home) == {path: digest}


@pytest.mark.parametrize("lines", [None, 0, 1, LAYERS, LAYERS + 1, 2 * LAYERS])
def test_a_killed_pull(registry, empty_home, lines):
    """A pull that is killed, whenever it is, is in the way of nothing, and what it left is removed."""
    command = [*AEGIS, "image", "pull", registry.name("python:1")]
    asked = len(registry.requests())
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as pulling:
        if lines is None:
            assert until(lambda: len(registry.requests()) > asked, 20)
        for _ in range(lines or 0):
            assert pulling.stderr.readline()
        pulling.kill()
    aegis.Image.prune()
    image = aegis.Image.pull(registry.name("python:1"))
    ((path, digest),) = disks(empty_home).items()
    aegis.Image.prune()
    assert disks(empty_home) == {path: digest}
    image.remove()
    assert taken(empty_home) < 100_000


def test_two_pulls_at_once(registry, images, empty_home):
    """Two processes that want one image fetch each of its layers once."""
    command = [*AEGIS, "image", "pull", "--quiet", registry.name("python:1")]
    with registry.listening() as heard:
        pulls = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
        ended = [(*pull.communicate(timeout=40), pull.returncode) for pull in pulls]
    assert [end[2] for end in ended] == [0, 0], ended
    assert ended[0][0] == ended[1][0]
    assert sorted(_layers_fetched(heard, images.manifest("python"))) == sorted(
        layer["digest"] for layer in images.manifest("python")["layers"]
    )
    assert len(disks(empty_home)) == 1


def test_progress(registry, images, empty_home):
    """A pull tells of each layer how far it is, first fetched and then unpacked, to the last byte."""
    heard: list[aegis.Progress] = []
    aegis.Image.pull(registry.name("python:1"), progress=heard.append)
    steps = {(one.number, one.step): one for one in heard}
    assert set(steps) == {(number, step) for number in range(1, LAYERS + 1) for step in ("fetch", "unpack")}
    sizes = [layer["size"] for layer in images.manifest("python")["layers"]]
    for (number, step), last in steps.items():
        told = [one for one in heard if (one.number, one.step) == (number, step)]
        done = [one.done for one in told]
        assert done == sorted(done)
        assert {one.layers for one in told} == {LAYERS}
        assert (last, last.done) == (told[-1], last.total)
        if step == "fetch":
            assert last.total == sizes[number - 1]


def test_a_callers_own_error_ends_a_pull(registry, empty_home):
    """What a progress callback raises ends the pull and reaches the caller; the next pull works."""

    def stop(progress: aegis.Progress) -> None:
        raise KeyError(progress.step)

    with pytest.raises(KeyError, match="fetch"):
        aegis.Image.pull(registry.name("python:1"), progress=stop)
    assert not aegis.Image.list()
    assert aegis.Image.pull(registry.name("python:1"))
