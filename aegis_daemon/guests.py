"""The socket that hands out connections to guests, and leases."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import attrs

from aegis_daemon.leases import Leases
from aegis_daemon.threads import Threads
from aegis_sdk import sockets, wire
from aegis_sdk.engine.base import Engine
from aegis_sdk.errors import AegisError, InvalidValue

_log = logging.getLogger(__name__)
_LINE = 1 << 12
_PATIENCE = 10.0  # seconds for a client to say what it wants
_REST = 0.1


@attrs.frozen(kw_only=True)
class _Wish:
    """What a client asks for, one of these."""

    dial: str | None = None
    attach: str | None = None
    lease: bool = False


@attrs.frozen
class Guests:
    """Answers on one listening socket until it is cancelled."""

    _engine: Engine
    _leases: Leases
    _threads: Threads

    async def serve(self, listener: socket.socket) -> None:
        """Take connections, each of which is served beside the others."""
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as clients:
            while True:
                try:
                    client, _ = await loop.sock_accept(listener)
                except OSError as error:  # no more descriptors: there will be some when others have left
                    _log.warning("a client could not be taken: %s", error)
                    await asyncio.sleep(_REST)
                    continue
                clients.create_task(self._serve(client))

    async def _serve(self, client: socket.socket) -> None:
        with client:
            client.setblocking(False)
            try:
                if sockets.peer(client).trusted:
                    await self._answer(client)
            except AegisError as error:
                await _say(client, {"error": wire.to_json(error)})
            except (OSError, EOFError):
                pass  # it has left
            except Exception:  # noqa: BLE001  # as in a route
                _log.exception("a client's wish was not understood")
                await _say(client, {"error": {"code": "internal", "message": "the daemon failed", "hint": ""}})

    async def _answer(self, client: socket.socket) -> None:
        async with asyncio.timeout(_PATIENCE):
            wish = wire.loads(await _line(client), _Wish)
        match wish:
            case _Wish(dial=str(sandbox), attach=None, lease=False):
                await self._hand_out(client, lambda: self._engine.dial(sandbox))
            case _Wish(dial=None, attach=str(task), lease=False):
                await self._hand_out(client, lambda: self._engine.tasks.attach(task))
            case _Wish(dial=None, attach=None, lease=True):
                await self._lease(client)
            case _:
                raise InvalidValue('one of "dial", "attach" and "lease" is to be asked for')

    async def _hand_out(self, client: socket.socket, connect: Callable[[], socket.socket]) -> None:
        with await self._threads.run(connect) as connection:
            socket.send_fds(client, [_dumped({"ok": {}})], [connection.fileno()])

    async def _lease(self, client: socket.socket) -> None:
        lease = self._leases.open()
        try:
            await _say(client, {"ok": {"lease": lease}})
            while await asyncio.get_running_loop().sock_recv(client, _LINE):
                pass
        finally:
            await asyncio.shield(self._threads.run(lambda: self._leases.close(lease)))


async def _line(client: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = await asyncio.get_running_loop().sock_recv(client, _LINE)
        if not piece:
            raise EOFError
        line += piece
        if len(line) > _LINE:
            raise InvalidValue(f"a line is to have {_LINE} bytes at most")
    return line


def _dumped(message: dict[str, Any]) -> bytes:
    return wire.dumps(message) + b"\n"


async def _say(client: socket.socket, message: dict[str, Any]) -> None:
    with suppress(OSError):  # it may have left
        await asyncio.get_running_loop().sock_sendall(client, _dumped(message))
