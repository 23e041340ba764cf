"""A registry that misbehaves as it is told, and images to be found in it."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
import select
import socket
import ssl
import subprocess
import tarfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

import attrs

from aegis_sdk.images import digests
from aegis_sdk.images.base import FoundImage
from aegis_sdk.images.manifest import OCI_MANIFEST

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@attrs.frozen(kw_only=True)
class Image:
    """An image as a registry has it: the bytes of its manifest, and its blobs by their digests."""

    manifest: bytes
    layer: str
    diff_id: str
    blobs: dict[str, bytes]

    @property
    def content(self) -> bytes:
        """The bytes of its layer, as they are downloaded."""
        return self.blobs[self.layer]


def make_image(content: bytes = b"hello\n", *, size: int | None = None, **changes: object) -> Image:
    """An image of one layer with one file; *size* and *changes* are the lies of its manifest."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as out:
        about = tarfile.TarInfo("greeting")
        about.size = len(content)
        out.addfile(about, io.BytesIO(content))
    layer = gzip.compress(tar.getvalue(), compresslevel=0, mtime=0)
    diff_id = digests.of(tar.getvalue())
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {"mediaType": _CONFIG, "digest": digests.of(config), "size": len(config)},
        "layers": [{"mediaType": _LAYER, "digest": digests.of(layer), "size": len(layer) if size is None else size}],
        **changes,
    }
    blobs = {digests.of(config): config, digests.of(layer): layer}
    return Image(manifest=json.dumps(manifest).encode(), layer=digests.of(layer), diff_id=diff_id, blobs=blobs)


#: The image that the tests' registries have as ``a/b``, and where they have it.
IMAGE = make_image(bytes(range(256)) * 200)
MANIFEST = "/v2/a/b/manifests/latest"
BLOB = f"/v2/a/b/blobs/{IMAGE.layer}"
CONFIG = f"/v2/a/b/blobs/{next(iter(IMAGE.blobs))}"


def fetch(found: FoundImage) -> list[int]:
    """Fetch the layer of an image that ``make_image`` made; what was reported meanwhile."""
    seen = list[int]()
    found.layers[0].fetch(seen.append)
    assert [entry.path for entry in found.layers[0].entries()] == [b"greeting"]
    return seen


#: The password of the tests' user.
SECRET = "gr33n"


def basic(password: str = SECRET) -> str:
    """What shows ``me`` and a password, in a header as in docker's files."""
    return base64.b64encode(f"me:{password}".encode()).decode()


def docker_login(home: Path, *hosts: str, password: str = SECRET, **entry: str) -> None:
    """Write what ``docker login`` leaves in *home*: a password for each of *hosts*, or *entry* in its place."""
    auths = dict.fromkeys(hosts, entry or {"auth": basic(password)})
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker/config.json").write_text(json.dumps({"auths": auths}))


@attrs.frozen(kw_only=True)
class Asked:
    """A request as it came; the names of its headers are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Conversation(BaseHTTPRequestHandler):
    """One connection; an answer writes to it what it likes."""

    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.asked = Asked(method=self.command, path=self.path, headers=headers, body=body)
        try:
            self.server.registry.answer(self)
        except OSError:
            self.close_connection = True  # the other end has had enough

    do_GET = do_POST = do_CONNECT = answer  # noqa: N815  # these names are http.server's

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer; in the names of *headers*, ``_`` stands for ``-``."""
        self.head(status, Content_Length=str(len(body)), **headers)
        self.wfile.write(body)

    def head(self, status: int, **headers: str) -> None:
        """The status and *headers*, and nothing else."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def drip(self, data: bytes, pause: float) -> None:
        """The bytes of *data* one at a time, until the registry is closed."""
        for byte in data:
            self.wfile.write(bytes([byte]))
            if self.server.registry.closing.wait(pause):
                break
        self.close_connection = True


Answer = Callable[[Conversation], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # they are waited for: no test leaves one
    registry: HostileRegistry

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that goes away is what many tests are about


class HostileRegistry:
    """A server at ``host``, with TLS if it has a *certificate*: a directory as ``make_authority`` fills it."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._answers: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), Conversation)
        self._server.registry = self
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.02))

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> HostileRegistry:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def on(self, path: str, *answers: Answer) -> None:
        """What the next requests for *path* get, whatever their query; the last answer is for all that follow."""
        self._answers[path] = list(answers)

    def publish(self, image: Image, name: str = "a/b", tag: str = "latest") -> str:
        """Offer *image* as an honest registry would; its reference."""
        self.on(f"/v2/{name}/manifests/{tag}", sends(image.manifest, Content_Type=OCI_MANIFEST))
        self.on(f"/v2/{name}/manifests/{digests.of(image.manifest)}", sends(image.manifest, Content_Type=OCI_MANIFEST))
        for digest, data in image.blobs.items():
            self.on(f"/v2/{name}/blobs/{digest}", ranged(data))
        return f"{self.host}/{name}:{tag}"

    def requests(self, path: str) -> list[Asked]:
        """The requests for *path* so far."""
        return [asked for asked in self.asked if asked.path.partition("?")[0] == path]

    def answer(self, talk: Conversation) -> None:
        path = talk.path.partition("?")[0]
        with self._lock:
            self.asked.append(talk.asked)
            answers = self._answers.get(path, [status(404)])
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
        answer(talk)


def make_authority(directory: Path) -> Path:
    """*directory*, with an authority's certificate ``ca.crt``, and by it one for localhost and registry.example."""
    (directory / "san").write_text("subjectAltName=DNS:localhost,DNS:registry.example\n")
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout"
    for command in (
        f"req -x509 {key} ca.key -out ca.crt -subj /CN=ours -days 2",
        f"req {key} key.pem -out request.pem -subj /CN=localhost",
        "x509 -req -in request.pem -CA ca.crt -CAkey ca.key -out cert.pem -days 2 -extfile san",
    ):
        subprocess.run(["openssl", *command.split()], cwd=directory, check=True, capture_output=True)
    return directory


def tunnel(host: str) -> Answer:
    """A proxy's tunnel to *host*, wherever it was asked for."""

    def answer(talk: Conversation) -> None:
        name, _, port = host.partition(":")
        with socket.create_connection((name, int(port))) as inside:
            talk.send_response(200)
            talk.end_headers()
            ends = {talk.connection: inside, inside: talk.connection}
            while ready := select.select(list(ends), [], [], 5)[0]:
                for end in ready:
                    if not (data := end.recv(1 << 16)):
                        talk.close_connection = True
                        return
                    ends[end].sendall(data)

    return answer


def sends(body: bytes, **headers: str) -> Answer:
    """*body*, with 200."""
    return lambda talk: talk.send(200, body, **headers)


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """Any other answer."""
    return lambda talk: talk.send(code, body, **headers)


def ranged(data: bytes) -> Answer:
    """*data*, or the part of it that is asked for."""

    def answer(talk: Conversation) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", talk.asked.headers.get("range", ""))
        if not found:
            talk.send(200, data)
            return
        begin = int(found[1])
        talk.send(206, data[begin:], Content_Range=f"bytes {begin}-{len(data) - 1}/{len(data)}")

    return answer


def cut(data: bytes, after: int) -> Answer:
    """*data* as announced, but the connection breaks *after* so many bytes."""

    def answer(talk: Conversation) -> None:
        talk.head(200, Content_Length=str(len(data)))
        talk.wfile.write(data[:after])
        talk.close_connection = True

    return answer
