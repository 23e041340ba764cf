"""How requests to registries travel: through proxies or straight, verified, and never waiting for a trickle."""

from __future__ import annotations

import ipaddress
import math
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import attrs
import httpcore
import httpx

from aegis_sdk.errors import RegistryFailed
from aegis_sdk.images.registry.trust import Trust, is_loopback

#: What a request may raise; all of it comes from the network or from who is at its other end.
FAILURES = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    UnicodeError,  # a host's name that DNS cannot hold
)
_TICK = 0.25


@attrs.frozen(kw_only=True)
class Patience:
    """How long a registry is waited for, in seconds, and how often it is tried.

    An answer that brings less than *slowest* bytes a second, over *stall* seconds of waiting, counts as stalled.
    The head of an answer has twice *stall*, however it is filled, and a small one (no layer) has *whole* for its body.
    *pause* follows the first failure and doubles with each; what the registry itself asks for counts up to
    *longest_wait*.
    """

    connect: float = 10.0
    stall: float = 30.0
    slowest: int = 1024
    whole: float = 120.0
    tries: int = 5
    pause: float = 0.5
    longest_wait: float = 60.0


class ProxyFailed(httpcore.ProxyError):
    """The proxy at *address* (``HOST:PORT``, never its password) has failed, as *reason* says."""

    def __init__(self, address: str, reason: Exception) -> None:
        super().__init__(f"the proxy {address} has failed")
        self.address = address
        self.reason = reason  # its cause, which httpcore takes from it on the way


class Transport(httpx.BaseTransport):
    """Carries each request as its host wants; *tick* is called again and again while it waits, and may raise.

    It is used without a client of httpx, which would keep cookies, unpack what is compressed, and read where a
    redirect leads before we do.
    """

    def __init__(
        self, trust: Trust, *, environ: Mapping[str, str], patience: Patience, tick: Callable[[], None]
    ) -> None:
        self._trust = trust
        self._environ = environ
        self._patience = patience
        self._tick = tick
        self._timeouts = {"connect": patience.connect, **dict.fromkeys(("read", "write", "pool"), patience.stall)}
        self._pools: dict[tuple[str, str], httpcore.ConnectionPool] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not isinstance(request.stream, httpx.SyncByteStream):
            raise TypeError("a request's body is not asynchronous")
        answer = self._pool(request.url).handle_request(
            httpcore.Request(
                request.method,
                httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions={"timeout": self._timeouts},
            )
        )
        if not isinstance(answer.stream, Iterable):
            raise TypeError("a response's body is not asynchronous")
        _end_of_head(answer)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer.stream), request=request)

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def _pool(self, url: httpx.URL) -> httpcore.ConnectionPool:
        host = url.netloc.decode("ascii")
        if (url.scheme, host) not in self._pools:
            proxy = self._proxy(url)
            self._pools[url.scheme, host] = httpcore.ConnectionPool(
                ssl_context=self._trust.context(host) if url.scheme == "https" else None,
                proxy=proxy,
                network_backend=_Backend(self._patience, self._tick, proxy),
            )
        return self._pools[url.scheme, host]

    def _proxy(self, url: httpx.URL) -> httpcore.Proxy | None:
        address = proxy_for(url.scheme, url.host, url.port, environ=self._environ)
        if not address:
            return None
        parts = _proxy_parts(address)
        host = parts.netloc.rpartition("@")[2]
        user = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        secured = self._trust.context(host) if parts.scheme == "https" else None
        return httpcore.Proxy(f"{parts.scheme}://{host}", auth=user, ssl_context=secured)


def proxy_for(scheme: str, host: str, port: int | None, *, environ: Mapping[str, str]) -> str:
    """The proxy that the environment names for a host, empty if none; as Go, and so docker, reads it."""
    if is_loopback(host):
        return ""
    for name in (f"{scheme}_proxy", "all_proxy"):
        address = environ.get(name) or environ.get(name.upper())
        if address:
            exempt = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
            direct = any(_matches(rule.strip().lower(), host, port) for rule in exempt.split(",") if rule.strip())
            return "" if direct else address if "://" in address else f"http://{address}"
    return ""


def _proxy_parts(address: str) -> SplitResult:
    with suppress(ValueError):
        parts = urlsplit(address)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    # What it is instead is not shown: it may hold a password.
    raise RegistryFailed(
        "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is no address of an HTTP proxy",
        hint="write http://HOST:PORT; hosts that need none are listed in NO_PROXY",
    )


def speaks_tls(host: str, port: int, *, timeout: float) -> bool:
    """Whether what listens at *host* answers to TLS; whose certificate it has is not asked here."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        suppress(OSError),
        socket.create_connection((host, port), timeout=timeout) as plain,
        context.wrap_socket(plain, server_hostname=host),
    ):
        return True
    return False


def _matches(rule: str, host: str, port: int | None) -> bool:
    if rule == "*":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule.strip("[]"), strict=False)
    name, _, wanted = rule.rpartition(":") if rule.rpartition(":")[2].isdigit() else (rule, "", "")
    if wanted and int(wanted) != port:
        return False
    name = name.strip("[]").removeprefix("*")
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


class _Body(httpx.SyncByteStream):
    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def close(self) -> None:
        if hasattr(self._stream, "close"):
            self._stream.close()


def _end_of_head(answer: httpcore.Response) -> None:
    stream = answer.extensions.get("network_stream")
    if not isinstance(stream, _Stream):
        raise TypeError("an answer does not come over a connection of ours")
    stream.end_of_head()


@attrs.frozen
class _Hop:
    """A proxy on the way; *tls* if TLS to it is still to come."""

    address: str
    tls: bool

    @classmethod
    def to(cls, proxy: httpcore.Proxy) -> _Hop:
        host, port = proxy.url.host.decode("ascii", "replace"), proxy.url.port
        return cls(f"{host}:{port}" if port else host, proxy.url.scheme == b"https")


@contextmanager
def _blaming(proxy: _Hop | None) -> Iterator[None]:
    try:
        yield
    except (httpcore.NetworkError, httpcore.TimeoutException, UnicodeError) as error:
        if proxy:
            raise ProxyFailed(proxy.address, error) from error
        raise


class _Backend(httpcore.NetworkBackend):
    """Connections that are watched while they are waited for."""

    def __init__(self, patience: Patience, tick: Callable[[], None], proxy: httpcore.Proxy | None) -> None:
        self._patience = patience
        self._tick = tick
        self._proxy = _Hop.to(proxy) if proxy else None
        self._plain = httpcore.SyncBackend()

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.NetworkStream:  # as httpcore's
        self._tick()
        with _blaming(self._proxy):
            plain = self._plain.connect_tcp(host, port, *args, **options)
        return _Stream(plain, self._patience, self._tick, self._proxy)


class _Stream(httpcore.NetworkStream):
    def __init__(
        self, plain: httpcore.NetworkStream, patience: Patience, tick: Callable[[], None], proxy: _Hop | None
    ) -> None:
        self._plain = plain
        self._patience = patience
        self._tick = tick
        self._proxy = proxy  # None from where the other end is the registry's own
        self._waited = 0.0
        self._received = 0
        self._head_until = math.inf

    def end_of_head(self) -> None:
        """Know that the answer's head is here: what follows has no deadline."""
        self._head_until = math.inf

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _blaming(self._proxy):
            return self._read(max_bytes, timeout)

    def _read(self, max_bytes: int, timeout: float | None) -> bytes:
        begin = time.monotonic()
        while True:
            self._tick()
            if time.monotonic() > self._head_until:  # answers with 1xx can go on and on
                raise httpcore.ReadTimeout("the head of an answer did not end")
            try:
                data = self._plain.read(max_bytes, timeout=min(_TICK, timeout or _TICK))
                break
            except httpcore.ReadTimeout:
                if timeout and time.monotonic() - begin >= timeout:
                    raise
        self._keep_pace(time.monotonic() - begin, len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        # A new request: how long the answer to the last one took says nothing of this one.
        self._waited, self._received = 0.0, 0
        self._head_until = time.monotonic() + 2 * self._patience.stall
        with _blaming(self._proxy):
            self._plain.write(buffer, timeout=timeout)

    def close(self) -> None:
        self._plain.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        # TLS to the proxy itself comes first, if it wants that; what comes behind its tunnel is the registry's.
        own = self._proxy if self._proxy and self._proxy.tls else None
        with _blaming(own):
            plain = self._plain.start_tls(ssl_context, server_hostname, timeout)
        return _Stream(plain, self._patience, self._tick, attrs.evolve(own, tls=False) if own else None)

    def get_extra_info(self, info: str) -> Any:  # whatever httpcore asks itself for
        return self._plain.get_extra_info(info)

    def _keep_pace(self, seconds: float, count: int) -> None:
        # Only waiting counts: a disk that takes the bytes slowly is not the registry's fault.
        self._waited += seconds
        self._received += count
        if self._waited < self._patience.stall:
            return
        if self._received < self._waited * self._patience.slowest:
            raise httpcore.ReadTimeout(f"only {self._received} bytes came in {self._waited:.0f} s")
        self._waited, self._received = 0.0, 0
