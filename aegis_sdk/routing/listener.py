"""Taking connections, and as many of them as are allowed."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from aegis_sdk.errors import PortTaken
from aegis_sdk.routing.stream import Stream

HOST = "127.0.0.1"
_AT_ONCE = 32
_BACKLOG = 1024
_REST = 0.2  # seconds without new connections where there are no descriptors for more
_TICK = 0.1  # seconds between two looks at what waits for too long


class Conversation(Protocol):
    """What is done with one client."""

    client: Stream
    idle: bool

    async def serve(self) -> None: ...

    def check(self, now: float) -> None: ...


def listen(port: int, *, or_any: bool = False) -> socket.socket:
    """A listening socket on *port* of 127.0.0.1, 0 for a free one; PortTaken if it is, and must not be another."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if or_any and error.errno == errno.EADDRINUSE:
            return listen(0)
        raise PortTaken(
            f"cannot listen on {HOST}:{port}: {error.strerror}", hint=f"see who does with: ss -ltnp 'sport = :{port}'"
        ) from error
    return listening


class Listener:
    """A listening socket in a loop; *welcome* gets each connection and its client's address."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, listening: socket.socket, welcome: Callable[[socket.socket, str], None]
    ) -> None:
        self._loop, self._listening, self._welcome = loop, listening, welcome
        self._resting: asyncio.TimerHandle | None = None
        self._watch()

    def close(self) -> None:
        """Take no more."""
        if self._resting:
            self._resting.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()

    def _watch(self) -> None:
        self._resting = None
        self._loop.add_reader(self._listening, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connected, (address, _) = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._listening)
                self._resting = self._loop.call_later(_REST, self._watch)
                return
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._welcome(connected, address)


class Clients:
    """All clients of a router, with a clock that runs while there is anything to look at."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, most: int, sweep: Callable[[float], bool]) -> None:
        self._loop, self._most, self._sweep = loop, most, sweep
        self._serving: dict[asyncio.Task[None], Conversation] = {}
        self._ticking: asyncio.TimerHandle | None = None

    def make_room(self) -> bool:
        """Whether there can be one more, if need be in the place of one that only waits for another request."""
        if len(self._serving) < self._most:
            return True
        idle = (task for task, each in self._serving.items() if each.idle)
        task = next((task for task in idle if not task.cancelling()), None)  # one for each who comes in this moment
        if task:
            task.cancel()
        return task is not None

    @property
    def crowded(self) -> bool:
        """Whether there are too many even to be told so."""
        return len(self._serving) > self._most + (self._most >> 3)

    def add(self, conversation: Conversation) -> None:
        """Serve one more."""
        task = self._loop.create_task(conversation.serve())
        self._serving[task] = conversation
        conversation.client.on_lost = task.cancel
        task.add_done_callback(self._served)
        if not self._ticking:
            self._ticking = self._loop.call_later(_TICK, self._tick)

    async def close(self) -> None:
        """End all."""
        while self._serving:
            for task in self._serving:
                task.cancel()
            await asyncio.wait(self._serving)
            await asyncio.sleep(0)  # for the callbacks that take them out
        if self._ticking:
            self._ticking.cancel()

    def _served(self, task: asyncio.Task[None]) -> None:
        conversation = self._serving.pop(task)
        conversation.client.close()  # where it was cancelled before it began

    def _tick(self) -> None:
        now = monotonic()
        for conversation in list(self._serving.values()):
            conversation.check(now)
        kept = self._sweep(now)
        self._ticking = self._loop.call_later(_TICK, self._tick) if kept or self._serving else None
