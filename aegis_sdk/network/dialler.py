"""Connecting from here to the address that was judged, straight or by a proxy."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import attrs

from aegis_sdk.network.addresses import Address
from aegis_sdk.network.policy import Attempt
from aegis_sdk.network.proxies import Proxy, ProxyInvalid, proxy_for

_LONGEST_ANSWER = 1 << 14
_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 4))
_SOCKS_FAILURES = {2: "not allowed", 3: "network unreachable", 4: "host unreachable", 5: "connection refused"}


def own(address: Address) -> bool:
    """Whether *address* is one of this machine's: what goes there would come from there."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect((str(address), 9))  # sends nothing
            return bool(asking.getsockname()[0] == str(address))
    except OSError:
        return False  # there is no way there at all


@attrs.frozen
class Dialler:
    """Opens connections in a loop; *resolve* finds the proxy."""

    loop: asyncio.AbstractEventLoop
    environ: Mapping[str, str]
    resolve: Callable[[str], Awaitable[tuple[Address, ...]]]
    timeout: float

    async def dial(self, attempt: Attempt, *, straight: bool = False) -> socket.socket:
        """A connection to where *attempt* is for, by the user's proxy if there is one, unless it is to be *straight*.

        OSError, also TimeoutError.
        """
        proxy = None if straight else self._proxy(attempt)
        async with asyncio.timeout(self.timeout):
            if not proxy:
                return await self._straight(attempt.address, attempt.port)
            return await self._by(proxy, attempt.address, attempt.port)

    def _proxy(self, attempt: Attempt) -> Proxy | None:
        try:
            return proxy_for(self.environ, attempt.address, attempt.port, attempt.names)
        except ProxyInvalid as error:
            raise OSError(str(error)) from error  # and never past a proxy that was meant to be there

    async def _straight(self, address: Address, port: int) -> socket.socket:
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        connected = socket.socket(family, socket.SOCK_STREAM)
        try:
            connected.setblocking(False)
            _prepare(connected)
            await self.loop.sock_connect(connected, (str(address), port))
        except BaseException:
            connected.close()
            raise
        return connected

    async def _by(self, proxy: Proxy, address: Address, port: int) -> socket.socket:
        connected = await self._to_proxy(proxy)
        try:
            await (_socks if proxy.socks else _http)(self.loop, connected, proxy, address, port)
        except BaseException:
            connected.close()
            raise
        return connected

    async def _to_proxy(self, proxy: Proxy) -> socket.socket:
        failure = OSError("the proxy's name has no address")
        for address in await self.resolve(proxy.host):
            try:
                return await self._straight(address, proxy.port)
            except OSError as error:
                failure = error
        raise OSError(f"the proxy cannot be reached: {failure}") from failure


def _prepare(connected: socket.socket) -> None:
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        with suppress(OSError, AttributeError):  # not every system has each
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _http(
    loop: asyncio.AbstractEventLoop, connected: socket.socket, proxy: Proxy, address: Address, port: int
) -> None:
    await loop.sock_sendall(connected, proxy.connect_request(address, port))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):  # byte by byte: what comes behind is the guest's
        if len(answer) > _LONGEST_ANSWER:
            raise OSError("the proxy does not come to an end")
        answer += await _exactly(loop, connected, 1)
    version, _, status = answer.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
    if not version.startswith("HTTP/1.") or not status.startswith("2"):
        raise ConnectionRefusedError(f"the proxy refuses: {status[:80]!r}")


async def _socks(
    loop: asyncio.AbstractEventLoop, connected: socket.socket, proxy: Proxy, address: Address, port: int
) -> None:
    """RFC 1928, and RFC 1929 if there is a user."""
    await loop.sock_sendall(connected, b"\5\1\2" if proxy.user else b"\5\1\0")
    version, way = await _exactly(loop, connected, 2)
    if version != 5 or way not in (0, 2):
        raise ConnectionRefusedError("the proxy takes no such user")
    if way == 2:
        user, password = (proxy.user or "").encode()[:255], proxy.password.encode()[:255]
        await loop.sock_sendall(connected, bytes([1, len(user)]) + user + bytes([len(password)]) + password)
        if (await _exactly(loop, connected, 2))[1]:
            raise ConnectionRefusedError("the proxy does not take the user and password")
    kind = b"\5\1\0\4" if address.version == 6 else b"\5\1\0\1"
    await loop.sock_sendall(connected, kind + address.packed + port.to_bytes(2, "big"))
    _, failure, _, kind_there = await _exactly(loop, connected, 4)
    if failure:
        raise ConnectionRefusedError(f"the proxy refuses: {_SOCKS_FAILURES.get(failure, failure)}")
    length = {1: 4, 4: 16}.get(kind_there) or (await _exactly(loop, connected, 1))[0]
    await _exactly(loop, connected, length + 2)


async def _exactly(loop: asyncio.AbstractEventLoop, connected: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = await loop.sock_recv(connected, count - len(data))
        if not part:
            raise ConnectionResetError("the proxy hung up")
        data += part
    return data
