"""Bytes both ways between a guest's connection and the one that was opened for it, each end of stream on its own."""

from __future__ import annotations

import asyncio
import select
import socket
from contextlib import suppress

import attrs

_PIECE = 1 << 16
_LAST = 30.0  # seconds that a guest has to take what was said before the connection broke


class Gone(Exception):  # as those in errors.py
    """The guest has hung up with more to come, or to go."""


@attrs.define
class Carried:
    """How many bytes went each way so far."""

    sent: int = 0
    received: int = 0
    answered: asyncio.Event = attrs.field(factory=asyncio.Event)  # all that there is to be received has been
    broken: bool = False  # whoever is there takes no more


async def tunnel(
    loop: asyncio.AbstractEventLoop,
    guest: socket.socket,
    there: socket.socket,
    carried: Carried,
    *,
    first: bytes = b"",
    parting: float,
) -> None:
    """Carry until both have said all, *first* before the guest's other bytes. Gone, or OSError if it breaks.

    Nothing is read from one before the other has taken what came before: whoever is slow is waited for. When the guest
    has said all, *parting* seconds without an answer break it.
    """
    async with asyncio.TaskGroup() as ways:
        said = ways.create_task(_out(loop, guest, there, carried, first))
        ways.create_task(_in(loop, there, guest, carried))
        await said
        await _part(carried, parting)


async def _out(
    loop: asyncio.AbstractEventLoop, guest: socket.socket, there: socket.socket, carried: Carried, data: bytes
) -> None:
    data = data or await loop.sock_recv(guest, _PIECE)
    while data:
        try:
            await loop.sock_sendall(there, data)
        except OSError:
            await _last_words(carried)
            raise
        carried.sent += len(data)
        data = await loop.sock_recv(guest, _PIECE)
    if not carried.answered.is_set() and _hung_up(guest):
        raise Gone("the guest hung up")
    there.shutdown(socket.SHUT_WR)


async def _last_words(carried: Carried) -> None:
    """Wait for what was said by a server that takes no more: why it does not, most often."""
    carried.broken = True
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST):
            await carried.answered.wait()


async def _part(carried: Carried, parting: float) -> None:
    """Wait for the end of the answer, as long as more of it comes."""
    while not carried.answered.is_set():
        before = carried.received
        with suppress(TimeoutError):
            async with asyncio.timeout(parting):
                await carried.answered.wait()
        if carried.received == before and not carried.answered.is_set():
            raise Gone(f"no answer came in {parting:g} s after the guest had said all")


async def _in(loop: asyncio.AbstractEventLoop, there: socket.socket, guest: socket.socket, carried: Carried) -> None:
    while data := await loop.sock_recv(there, _PIECE):
        try:
            await loop.sock_sendall(guest, data)
        except OSError as error:
            raise Gone("the guest hung up") from error
        carried.received += len(data)
    carried.answered.set()
    if not carried.broken:
        guest.shutdown(socket.SHUT_WR)


def _hung_up(guest: socket.socket) -> bool:
    """Whether the guest has left altogether, and not only said all that it has to say."""
    poll = select.poll()
    poll.register(guest, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
