"""One connection that a guest has opened: what it asks for, whether that may be, and what becomes of it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

import attrs

from aegis_sdk.errors import InvalidValue
from aegis_sdk.model import NetworkEvent, host_name
from aegis_sdk.network import requests
from aegis_sdk.network.addresses import Address
from aegis_sdk.network.dialler import Dialler
from aegis_sdk.network.limits import Limits
from aegis_sdk.network.outside import Decision, Outside
from aegis_sdk.network.resolver import Resolver
from aegis_sdk.network.tunnel import Carried, Gone, tunnel

_KNOWN_FOR = 30  # seconds that a guest may keep an answer: it costs little to ask again
_AT_ONCE = struct.pack("ii", 1, 0)  # a close that is a reset
_FULL = "there are too many connections from this guest"


@attrs.define(eq=False)
class Connection:
    """One of a guest's connections; *serve* is its story, a task of the gateway's loop."""

    outside: Outside
    resolver: Resolver
    dialler: Dialler
    loop: asyncio.AbstractEventLoop
    limits: Limits
    guest: socket.socket
    reset: Callable[[], object]
    full: bool
    _began: float = attrs.field(factory=time.monotonic, init=False)
    _time: float = attrs.field(factory=time.time, init=False)
    _asked: tuple[Address, int] | None = attrs.field(default=None, init=False)  # while there is leave for it
    _withdrawn: str = attrs.field(default="", init=False)

    def withdrawn(self) -> bool:
        """Whether the network, which has changed, refuses what it allowed: then the guest sees it break."""
        if not self._asked:
            return False
        verdict = self.outside.decide(*self._asked).verdict
        if verdict.allowed:
            return False
        self._withdrawn = f"it is allowed no more: {verdict.reason}"
        self.reset()
        return True

    async def serve(self) -> None:
        """Read the question, answer it, and carry what follows."""
        with suppress(OSError, requests.Nonsense):  # OSError: the guest has ended, or left
            async with asyncio.timeout(self.limits.asked):
                line, rest = await self._line()
            match requests.parse(line):
                case requests.Resolve(name):
                    await self._say(await self._resolve(name))
                case requests.Outgoing(address, port):
                    await self._connect(address, port, rest)

    async def _line(self) -> tuple[bytes, bytes]:
        data = b""
        while b"\n" not in data:
            if len(data) > requests.LONGEST or not (part := await self.loop.sock_recv(self.guest, requests.LONGEST)):
                raise requests.Nonsense("it is no line")
            data += part
        line, _, rest = data.partition(b"\n")
        return line, rest

    async def _say(self, answer: bytes) -> None:
        await self.loop.sock_sendall(self.guest, answer)

    async def _resolve(self, text: str) -> bytes:
        try:
            name = host_name(text)
        except InvalidValue as error:
            return requests.unresolved(error.message, unknown=True)
        if self.full:
            return requests.unresolved(_FULL, unknown=False)
        if refusal := self.outside.refuses(name):
            self._note(refusal)
            return requests.unresolved(f"{name} is not resolved: {refusal.verdict.reason}", unknown=True)
        try:
            return requests.addresses(await self._addresses(name), seconds=_KNOWN_FOR)
        except OSError as error:
            return requests.unresolved(f"{name} cannot be resolved: {error}", unknown=False)

    async def _addresses(self, name: str) -> tuple[Address, ...]:
        if self.outside.shares(name):
            return (self.outside.shared.address(name),)
        found = await self.resolver.resolve(name)
        return self.outside.names.remember(name, found, now=time.monotonic())

    async def _connect(self, address: Address, port: int, first: bytes) -> None:
        if self.full:
            await self._say(requests.failed(_FULL, errno.ECONNREFUSED))
            return
        decision = self.outside.decide(address, port)
        if not decision.verdict.allowed:
            self._note(decision)
            await self._say(requests.failed(decision.verdict.reason, errno.ECONNREFUSED))
            return
        carried, error = Carried(), ""
        self._asked = address, port
        try:
            error = await self._carry(decision, first, carried)
        finally:
            self._asked = None
            self._note(decision, error=error or self._withdrawn, carried=carried)

    async def _carry(self, decision: Decision, first: bytes, carried: Carried) -> str:
        """Why it failed, empty if it did not."""
        try:
            there = await self.dialler.dial(decision.attempt, straight=decision.straight)
        except OSError as error:
            number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or errno.EHOSTUNREACH
            said = os.strerror(number) if error.errno or not str(error) else str(error)
            await self._say(requests.failed(said, number))
            return said
        with there:
            try:
                await self._say(requests.CONNECTED)
                return await self._tunnel(there, first, carried)
            except asyncio.CancelledError:  # neither side has said all that it would have
                there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                raise

    async def _tunnel(self, there: socket.socket, first: bytes, carried: Carried) -> str:
        failures: tuple[BaseException, ...] = ()
        try:
            await tunnel(self.loop, self.guest, there, carried, first=first, parting=self.limits.parting)
        except* (Gone, OSError) as broken:
            failures = broken.exceptions
            self.reset()  # an end that comes for a failure must not look like the end of what was said
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        return ", ".join(dict.fromkeys(map(str, failures)))

    def _note(self, decision: Decision, *, error: str = "", carried: Carried | None = None) -> None:
        carried, verdict = carried or Carried(), decision.verdict
        event = NetworkEvent(
            time=self._time,
            name=decision.name,
            address=decision.address,
            port=decision.port,
            allowed=verdict.allowed,
            rule=verdict.rule,
            reason=verdict.reason,
            remedy=verdict.remedy,
            error=error,
            sent=carried.sent,
            received=carried.received,
            duration=time.monotonic() - self._began,
        )
        self.outside.note(event)
