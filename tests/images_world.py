"""The world of registries: Debian's, filled by skopeo, and homes and settings of the tests' own."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from tests import engines
from tests.images_made import Layout, make, said, skopeo

USER, PASSWORD = "somebody", "correct horse"
_PASSWORDS = (
    f"{USER}:$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e\n"  # bcrypt, as the registry wants it
)


@attrs.frozen
class Registry:
    """A running registry at *address*, and all that it was asked for."""

    address: str
    log: Path
    images: Layout
    options: tuple[str, ...] = ()

    def name(self, image: str) -> str:
        return f"{self.address}/{image}"

    def push(self, tag: str, image: str, *options: str) -> str:
        """Push the layout's *tag* as *image*, such as ``python:1``; its reference."""
        target = f"docker://{self.name(image)}"
        skopeo(self.images.reference(tag), target, "--dest-tls-verify=false", *self.options, *options)
        return self.name(image)

    def requests(self) -> list[str]:
        """All requests so far, such as ``GET /v2/python/manifests/1``."""
        return re.findall(r'"((?:GET|HEAD|POST|PUT|PATCH|DELETE) \S+) HTTP/', self.log.read_text(errors="replace"))

    @contextmanager
    def listening(self) -> Iterator[list[str]]:
        """The requests of the block, once it has ended."""
        heard: list[str] = []
        before = len(self.requests())
        yield heard
        heard += self.requests()[before:]


def disks(home: Path) -> dict[Path, str]:
    """The disks of images in *home*, each with a digest of its bytes."""
    found = {}
    for path in (home / "data" / "images").rglob("*"):
        if path.is_file() and not path.name.startswith(("harness", "kernel")):
            data = path.read_bytes()
            if data[1024:1028] == b"\xe2\xe1\xf5\xe0":
                found[path] = hashlib.sha256(data).hexdigest()
    return found


def taken(home: Path) -> int:
    """The bytes that *home* takes on its disk."""
    return sum(path.stat().st_blocks * 512 for path in home.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """Images of several kinds in one OCI layout."""
    return make(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def registry(images: Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry without a password, over plain HTTP, with all images."""
    with _serving(images, tmp_path_factory.mktemp("registry")) as served:
        for tag, image in (
            ("hello", "hello:1"),
            ("python", "python:1"),
            ("python-user", "python:user"),
            ("odd", "odd:1"),
        ):
            served.push(tag, image)
        skopeo(f"docker://{served.name('python:1')}", f"docker://{served.name('python:same')}", *_NO_TLS)
        served.push("foreign", "foreign:1")
        for tag in ("multi", "foreign-index"):
            served.push(tag, f"{tag}:1", "--all")
        yield served


@pytest.fixture(scope="session")
def registry_with_password(images: Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that wants USER and PASSWORD, with ``hello:1``."""
    work = tmp_path_factory.mktemp("registry")
    (work / "passwords").write_text(_PASSWORDS)
    auth = {"htpasswd": {"realm": "a test", "path": str(work / "passwords")}}
    with _serving(images, work, settings={"auth": auth}, options=("--dest-creds", f"{USER}:{PASSWORD}")) as served:
        served.push("hello", "hello:1")
        yield served


@pytest.fixture(scope="session")
def registry_over_https(images: Layout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Path]]:
    """A registry over HTTPS with ``hello:1``, and the certificate of the authority that vouches for it."""
    work = tmp_path_factory.mktemp("registry")
    authority = _certificates(work)
    tls = {"certificate": str(work / "server.crt"), "key": str(work / "server.key")}
    with _serving(images, work, http={"tls": tls}) as served:
        served.push("hello", "hello:1")
        yield served, authority


@pytest.fixture(scope="session", autouse=True)
def nobodys_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test uses the credentials or proxies of whoever runs it."""
    empty = tmp_path_factory.mktemp("settings")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
            patch.setenv(name, str(empty))
        for name in ("http_proxy", "https_proxy", "all_proxy", "ssl_cert_file", "ssl_cert_dir", "registry_auth_file"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        yield


@pytest.fixture
def log_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Registry, str], None]:
    """Writes a password for a registry into Docker's settings, as ``docker login`` does."""

    def log_in(registry: Registry, password: str) -> None:
        secret = base64.b64encode(f"{USER}:{password}".encode()).decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": secret}}}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    return log_in


@pytest.fixture
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str) -> Iterator[Path]:
    """A home of the test's own, in which no image is; with a daemon of its own where a daemon's engine is tried."""
    home = tmp_path / "home"
    monkeypatch.setenv("AEGIS_HOME", str(home))
    with engines.elsewhere(engine, home, monkeypatch):
        yield home


_NO_TLS = ("--src-tls-verify=false", "--dest-tls-verify=false")


@contextmanager
def _serving(
    images: Layout,
    work: Path,
    *,
    settings: Mapping[str, object] | None = None,
    http: Mapping[str, object] | None = None,
    options: tuple[str, ...] = (),
) -> Iterator[Registry]:
    storage = {"filesystem": {"rootdirectory": str(work / "storage")}}
    address = {"addr": "127.0.0.1:0", "secret": "a test", **(http or {})}
    described = {"version": "0.1", "storage": storage, "http": address, **(settings or {})}
    (work / "config.yml").write_text(json.dumps(described))  # JSON is YAML
    log = work / "log"
    with log.open("w") as out:
        process = subprocess.Popen(["docker-registry", "serve", work / "config.yml"], stdout=out, stderr=out)
    try:
        yield Registry(_address(log, process), log, images, options)
    finally:
        process.terminate()
        process.wait(10)


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text()):
            return found[1]
        time.sleep(0.02)
    raise AssertionError(f"the registry does not come up: {log.read_text()}")


def _certificates(work: Path) -> Path:
    """A certificate for this machine in ``server.crt``, and the one of the authority that signed it."""
    key, authority = work / "authority.key", work / "authority.crt"
    make = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "9")
    usage = ("-addext", "keyUsage=critical,keyCertSign")
    said(*make, "-subj", "/CN=A test's authority", *usage, "-keyout", key, "-out", authority)
    names = ("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE")
    signed = ("-CA", authority, "-CAkey", key)
    said(*make, "-subj", "/CN=localhost", *names, *signed, "-keyout", work / "server.key", "-out", work / "server.crt")
    return authority
