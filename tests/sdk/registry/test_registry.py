"""Images are found in a real registry, the distribution project's own: open, with a password, and over TLS."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import httpx
import pytest

from aegis_sdk.errors import ArchitectureNotFound, ImageNotFound, RegistryDenied, RegistryFailed
from aegis_sdk.images import digests
from aegis_sdk.images.manifest import OCI_INDEX, OCI_MANIFEST
from aegis_sdk.images.registry.source import RegistrySource
from aegis_sdk.images.registry.transport import Patience
from tests.conftest import until
from tests.sdk.registry.hostile_registry import Image, docker_login, make_image

USER, PASSWORD = "me", "open sesame"
HTPASSWD = f"{USER}:$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy\n"
IMAGE = make_image(b"x" * 300_000)
PATIENCE = Patience(connect=2.0, stall=5.0, tries=2, pause=0.01)


@attrs.frozen
class Registry:
    """A running docker-registry at *host*."""

    host: str
    client: httpx.Client

    def push(self, image: Image, name: str = "owner/name") -> None:
        for data in image.blobs.values():
            self.push_blob(data, name)
        self.push_manifest(image.manifest, name, "latest", OCI_MANIFEST)

    def push_blob(self, data: bytes, name: str) -> None:
        place = self.client.post(f"/v2/{name}/blobs/uploads/").headers["location"]
        url = httpx.URL(place).copy_merge_params({"digest": digests.of(data)})
        answer = self.client.put(url, content=data, headers={"Content-Type": "application/octet-stream"})
        assert answer.status_code == 201, answer.text

    def push_manifest(self, data: bytes, name: str, tag: str, media_type: str) -> None:
        answer = self.client.put(f"/v2/{name}/manifests/{tag}", content=data, headers={"Content-Type": media_type})
        assert answer.status_code == 201, answer.text


@contextmanager
def _serve(directory: Path, *, http: str = "", auth: str = "", authority: Path | None = None) -> Iterator[Registry]:
    config, log = directory / "config.yml", directory / "log"
    config.write_text(
        f"version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {directory}/data}}}}\n"
        f"http:\n  addr: 127.0.0.1:0\n  secret: x\n{http}{auth}"
    )
    command = ["docker-registry", "serve", str(config)]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            assert until(lambda: bool(_ports(log)), 10), log.read_text()
            (port,) = _ports(log)
            with httpx.Client(
                base_url=f"{'https' if authority else 'http'}://localhost:{port}",
                auth=(USER, PASSWORD),
                verify=ssl.create_default_context(cafile=authority),
                trust_env=False,
            ) as client:
                yield Registry(f"localhost:{port}", client)
        finally:
            process.kill()


def _ports(log: Path) -> list[str]:
    return re.findall(r"listening on 127\.0\.0\.1:(\d+)", log.read_text())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """An open registry without TLS."""
    with _serve(tmp_path_factory.mktemp("plain")) as registry:
        registry.push(IMAGE)
        yield registry


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that asks for a password."""
    directory = tmp_path_factory.mktemp("guarded")
    (directory / "htpasswd").write_text(HTPASSWD)
    auth = f"auth:\n  htpasswd: {{realm: here, path: {directory}/htpasswd}}\n"
    with _serve(directory, auth=auth) as registry:
        registry.push(IMAGE)
        yield registry


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, authority: Path) -> Iterator[Registry]:
    """A registry with TLS, whose authority nobody knows."""
    http = f"  tls: {{certificate: {authority}/cert.pem, key: {authority}/key.pem}}\n"
    with _serve(tmp_path_factory.mktemp("secured"), http=http, authority=authority / "ca.crt") as registry:
        registry.push(IMAGE)
        yield registry


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., RegistrySource]:
    """Makes sources for a user whose home is empty at first."""

    def source(**environ: str) -> RegistrySource:
        return RegistrySource(tmp_path / "blobs", environ={"HOME": str(tmp_path), **environ}, patience=PATIENCE)

    return source


def _pull(source: RegistrySource, reference: str) -> None:
    found = source.find(reference, architecture="amd64")
    for layer in found.layers:
        layer.fetch(lambda _count: None)
        assert [(entry.path, b"".join(entry.content)) for entry in layer.entries()] == [(b"greeting", b"x" * 300_000)]


def test_by_tag_and_by_digest(plain, source, tmp_path):
    """An image is found by its tag and by its digest, and its layer comes whole."""
    _pull(source(), f"{plain.host}/owner/name")
    found = source().find(f"{plain.host}/owner/name", architecture="amd64")
    assert source().find(found.pinned, architecture="amd64").digest == found.digest == digests.of(IMAGE.manifest)
    assert [path.name for path in (tmp_path / "blobs").iterdir()] == [IMAGE.layer.replace(":", "-")]


def test_what_is_not_there(plain, source):
    """An unknown repository and an unknown tag are images that are not found."""
    for reference in ("no/such", "owner/name:nosuch", f"owner/name@sha256:{'0' * 64}"):
        with pytest.raises(ImageNotFound, match=r"was not found: .*unknown"):
            source().find(f"{plain.host}/{reference}", architecture="amd64")


def test_an_index(plain, source):
    """Of an index the variant for the wanted architecture is found; another one is refused with what there is."""
    plain.push(IMAGE, "many")
    entry = {"mediaType": OCI_MANIFEST, "digest": digests.of(IMAGE.manifest), "size": len(IMAGE.manifest)}
    index = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [{**entry, "platform": {"os": "linux", "architecture": "amd64"}}],
    }
    plain.push_manifest(json.dumps(index).encode(), "many", "index", OCI_INDEX)
    found = source().find(f"{plain.host}/many:index", architecture="amd64")
    assert found.digest == digests.of(IMAGE.manifest)
    with pytest.raises(ArchitectureNotFound, match=r"no linux/arm64 variant .* \(has: linux/amd64\)"):
        source().find(f"{plain.host}/many:index", architecture="arm64")


def test_a_download_goes_on(plain, source, tmp_path):
    """A half download is completed from a real registry's Range answer."""
    found = source().find(f"{plain.host}/owner/name", architecture="amd64")
    (tmp_path / "blobs").mkdir()
    partial = tmp_path / "blobs" / f"{IMAGE.layer.replace(':', '-')}.partial"
    partial.write_bytes(IMAGE.content[:100_000])
    seen = list[int]()
    found.layers[0].fetch(seen.append)
    assert min(seen) == 100_000
    assert seen[-1] == len(IMAGE.content)


def test_a_password(guarded, source, tmp_path):
    """A registry with a password is read with the right one, and refused with advice without it or with another."""
    reference = f"{guarded.host}/owner/name"
    with pytest.raises(RegistryDenied, match="user and a password") as caught:
        source().find(reference, architecture="amd64")
    assert caught.value.hint == f"log in with: docker login {guarded.host}"
    docker_login(tmp_path, guarded.host, password="wrong")
    with pytest.raises(RegistryDenied, match="does not let us read owner/name"):
        source().find(reference, architecture="amd64")
    docker_login(tmp_path, guarded.host, password=PASSWORD)
    _pull(source(), reference)


def test_a_private_authority(secured, source, authority, tmp_path):
    """A certificate of an unknown authority is refused with advice, and taken once the advice is followed."""
    reference = f"{secured.host}/owner/name"
    with pytest.raises(RegistryFailed, match=f"certificate of {secured.host} is not trusted") as caught:
        source().find(reference, architecture="amd64")
    assert f"~/.config/containers/certs.d/{secured.host}/ca.crt" in caught.value.hint
    _pull(source(SSL_CERT_FILE=f"{authority}/ca.crt"), reference)
    shutil.rmtree(tmp_path / "blobs")
    place = tmp_path / ".config/containers/certs.d" / secured.host
    place.mkdir(parents=True)
    shutil.copy(authority / "ca.crt", place)
    _pull(source(), reference)


def test_a_certificate_for_another_host(secured, source, authority):
    """A certificate that does not name the host is refused, whoever made it."""
    with pytest.raises(RegistryFailed, match="not trusted: IP address mismatch"):
        source(SSL_CERT_FILE=f"{authority}/ca.crt").find(
            secured.host.replace("localhost", "127.0.0.1") + "/owner/name", architecture="amd64"
        )


@pytest.mark.parametrize("content", ["no certificate", None])
def test_authorities_that_cannot_be_read(secured, source, tmp_path, content):
    """A broken or missing file of authorities is named."""
    file = tmp_path / "broken.crt"
    if content:
        file.write_text(content)
    with pytest.raises(RegistryFailed, match=r"broken\.crt"):
        source(SSL_CERT_FILE=str(file)).find(f"{secured.host}/owner/name", architecture="amd64")


def test_what_another_tool_has_pushed(plain, source, tmp_path):
    """An image that skopeo has copied from a layout is found with the same digest."""
    command = ["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"]
    places = [f"docker://{plain.host}/owner/name:latest", f"docker://{plain.host}/copied:1"]
    subprocess.run([*command, *places], check=True, capture_output=True)
    _pull(source(), f"{plain.host}/copied:1")
