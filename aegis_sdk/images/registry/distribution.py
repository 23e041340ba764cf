"""Manifests and blobs of one repository, by the OCI distribution specification."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager

import attrs
import httpx

from aegis_sdk.errors import ImageInvalid, RegistryFailed
from aegis_sdk.images import digests
from aegis_sdk.images.manifest import CONFIG_LIMIT, LIMIT, MANIFEST_MEDIA_TYPES, Content, Descriptor
from aegis_sdk.images.registry import credentials
from aegis_sdk.images.registry.exchange import Exchange
from aegis_sdk.images.registry.reference import DOCKER_HUB, Reference
from aegis_sdk.images.registry.refusals import Again
from aegis_sdk.images.registry.tokens import Keyring
from aegis_sdk.images.registry.transport import Patience, Transport, speaks_tls
from aegis_sdk.images.registry.trust import Trust, is_loopback

_HUB_HOST = "registry-1.docker.io"
_ACCEPT = {"Accept": ", ".join(MANIFEST_MEDIA_TYPES)}
_PROGRESS = 1 << 20  # so much more of a blob, and the try that brought it has been worth it
_PROBE_SECONDS = 2.0
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)


@attrs.frozen(kw_only=True)
class Repository:
    """One repository as one user sees it; what is learned of it, such as tokens, serves all its sessions."""

    reference: Reference
    environ: Mapping[str, str] = attrs.field(repr=False)
    plain_http: frozenset[str]
    patience: Patience
    base: httpx.URL
    keyring: Keyring
    trust: Trust

    @contextmanager
    def session(self, tick: Callable[[], None] = lambda: None) -> Iterator[Session]:
        """Connections to it, all closed at the end; *tick* is called whenever they are waited for, and may raise."""
        transport = Transport(self.trust, environ=self.environ, patience=self.patience, tick=tick)
        with closing(transport):
            yield Session(self._exchange(transport, tick))

    def _exchange(self, transport: Transport, tick: Callable[[], None]) -> Exchange:
        return Exchange(
            transport=transport,
            base=self.base,
            reference=self.reference,
            keyring=self.keyring,
            plain_http=self.plain_http,
            patience=self.patience,
            tick=tick,
        )


def repository(
    reference: Reference, *, environ: Mapping[str, str], plain_http: frozenset[str], patience: Patience
) -> Repository:
    """The repository of *reference*; *plain_http* are registries, each ``HOST`` or ``HOST:PORT``."""
    registry, name = reference.registry, reference.repository
    plain_http = frozenset(map(str.lower, plain_http))
    host = _HUB_HOST if registry == DOCKER_HUB else registry
    scheme = "http" if _is_plain(httpx.URL(f"https://{host}"), plain_http, patience) else "https"
    return Repository(
        reference=reference,
        environ=environ,
        plain_http=plain_http,
        patience=patience,
        base=httpx.URL(f"{scheme}://{host}"),
        keyring=Keyring(registry, name, lambda: credentials.find(registry, name, environ=environ)),
        trust=Trust(environ),
    )


def _is_plain(url: httpx.URL, plain_http: frozenset[str], patience: Patience) -> bool:
    if {url.host, url.netloc.decode()} & plain_http:
        return True
    # As docker does: this machine's own registries are asked for TLS first, and used without if they have none.
    timeout = min(_PROBE_SECONDS, patience.connect)
    return is_loopback(url.host) and not speaks_tls(url.host, url.port or 443, timeout=timeout)


@attrs.frozen
class Session:
    """Open connections to a repository."""

    _exchange: Exchange

    def manifest(self) -> Content:
        """What the repository's reference leads to."""
        reference = self._exchange.reference
        data, headers = self._exchange.read(f"manifests/{reference.digest or reference.tag}", _ACCEPT, limit=LIMIT)
        if reference.digest:
            digests.check(data, reference.digest, f"what {reference.registry} has given")
        media_type = headers.get("content-type", "").partition(";")[0].strip()
        return Content(data, media_type[:200])

    def document(self, descriptor: Descriptor) -> bytes:
        """The manifest or config that *descriptor* names; whoever asked checks it."""
        if descriptor.media_type in MANIFEST_MEDIA_TYPES:
            return self._exchange.read(f"manifests/{descriptor.digest}", _ACCEPT, limit=LIMIT)[0]
        digest = descriptor.digest
        return self._exchange.read(f"blobs/{digest}", {}, limit=CONFIG_LIMIT, blob=digest)[0]

    def blob(self, digest: str, *, size: int, start: int) -> Generator[tuple[int, bytes], None, None]:
        """The bytes of a layer from *start* on, each piece with its offset; 0 if the registry began anew."""
        position = furthest = start
        failures = 0
        while position < size:
            try:
                with self._exchange.open(f"blobs/{digest}", _range(position), blob=digest) as response:
                    if position and not _continues(response, position, size):
                        position = 0
                    if response.status_code != 200 and not position:
                        continue  # it answers what was not asked; without a range it cannot
                    _check_length(response, position, digest, size)
                    for chunk in self._exchange.chunks(response):
                        yield position, chunk
                        position += len(chunk)
                _require_all(position, digest, size)
            except Again as again:
                failures = 1 if position - furthest >= _PROGRESS else failures + 1
                furthest = max(furthest, position)
                self._exchange.pause(failures, again)


def _range(position: int) -> dict[str, str]:
    return {"Range": f"bytes={position}-"} if position else {}


def _continues(response: httpx.Response, position: int, size: int) -> bool:
    """Whether the body is what is missing from *position* on."""
    found = _RANGE.fullmatch(response.headers.get("content-range", ""))
    return bool(response.status_code == 206 and found and (int(found[1]), int(found[2])) == (position, size - 1))


def _check_length(response: httpx.Response, position: int, digest: str, size: int) -> None:
    announced = response.headers.get("content-length", "")[:18]
    if announced.isascii() and announced.isdigit() and int(announced) != size - position:
        raise ImageInvalid(f"{digest} has {position + int(announced)} bytes at its registry, and its image says {size}")


def _require_all(position: int, digest: str, size: int) -> None:
    if position < size:
        raise Again(RegistryFailed(f"the registry ended {digest} after {position} of {size} bytes"))
