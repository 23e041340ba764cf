"""Carries connections to a guest over one byte stream: a yamux session between a port and local sockets.

What a caller holds is an ordinary connected socket; its other end is here. Back-pressure goes all the way: bytes that
a caller does not take stay in a buffer of at most one window, and the guest is not told to send more.
"""

from __future__ import annotations

import resource
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import islice

import attrs

from aegis_sdk.drivers import yamux
from aegis_sdk.drivers.base import Outlet
from aegis_sdk.drivers.reactor import Callback, Reactor
from aegis_sdk.drivers.readiness import HANG_UP, READ, WRITE

_CHUNK = 1 << 18
_LOCAL_CHUNK = 1 << 16
# Enough to keep the port busy; more would only delay what comes after it.
_BACKLOG = 1 << 18
# Windows are given back in halves: a frame for each piece would cost more than it gains.
_GIVE_BACK = yamux.WINDOW // 2
_GIVE_BACK_THEIRS = yamux.INITIAL_WINDOW // 2
#: Connections that the guest has open; more are hung up on, as are those for which there are too few descriptors.
_MOST_THEIRS = 1536
_PART = 4  # of this process's descriptors, one in so many for each end of these
_SILENT_TICKS = 6


@attrs.define(eq=False)
class _Local:
    """The relay's end of one caller's connection."""

    socket: socket.socket
    ready: Callback
    give_back: int = _GIVE_BACK
    pending: deque[bytes] = attrs.field(factory=deque)
    taken: int = 0
    reads: bool = True  # until the caller has said that no more comes
    finished: bool = False  # the guest has said that no more comes
    broken: bool = False  # its end is a reset
    gone: bool = False  # the other end is closed, and what it said last waits for room


def _ignore() -> None:
    """Do nothing: the monitor's end is noticed elsewhere."""


class Relay:
    """All connections to one guest, over its port; lives in the reactor's thread, but for ``connect``."""

    def __init__(self, reactor: Reactor, outlet: Outlet | None = None) -> None:
        self._reactor, self._outlet = reactor, outlet
        self._port: socket.socket | None = None  # until ``carry``: some guests call the host when they are up
        self._on_end: Callable[[], None] = _ignore
        self._session = yamux.Session(takes=outlet is not None)
        self._theirs = 0  # of the locals, opened by the guest
        self._locals: dict[int, _Local] = {}
        self._waiting: set[socket.socket] = set()  # given to us, and not carried yet
        self._buffer = memoryview(bytearray(_CHUNK))
        self._heard = False
        self._over = False
        self._silent = 0
        self._owed = False  # a sign of life
        self._congested = False

    def carry(self, port: socket.socket, *, on_end: Callable[[], None] = _ignore) -> None:
        """Carry all connections over *port*, which is the relay's from now on; call *on_end* when the guest ends it."""
        port.setblocking(False)
        self._port, self._on_end = port, on_end
        self._reactor.watch(port.fileno(), READ, partial(self._on_port, port))
        self._flush()

    def connect(self, local: socket.socket) -> bool:
        """From any thread: carry *local* to the guest as a new connection; false if all has ended."""
        local.setblocking(False)
        self._waiting.add(local)
        if self._reactor.ask(partial(self._open, local)):
            return True
        self._waiting.discard(local)
        return False

    def alive(self) -> bool:
        """Ask for a sign of life, to be called regularly; false when several calls brought none."""
        if not self._heard:
            return True  # still booting, which has a deadline of its own
        self._silent += 1
        self._ping()
        return self._silent <= _SILENT_TICKS

    def forgive(self) -> None:
        """Count silence from now: there was a reason for it until here."""
        self._silent = 0

    def owes_a_sign(self) -> bool:
        """Whether the guest has been asked for a sign of life, and has not given it; if it had not been, it is now."""
        if not self._heard or self._owed:
            return self._owed
        self._ping()
        return False

    def _ping(self) -> None:
        self._owed = True
        self._session.ping()
        self._flush()

    def close(self) -> None:
        """End every connection, those too that came too late to be carried."""
        for end in (*self._waiting.copy(), *(local.socket for local in self._locals.values())):
            _close(end)
        self._waiting.clear()
        self._locals.clear()
        if self._port:
            self._port.close()

    def _open(self, local: socket.socket) -> None:
        self._waiting.discard(local)
        number = self._session.open()
        self._locals[number] = _Local(local, partial(self._on_local, number))
        self._update(number)
        self._flush()

    def _open_theirs(self, number: int) -> None:
        """Give the outlet a connection that the guest has opened."""
        if self._theirs >= _most_theirs() or not self._outlet:
            self._session.reset(number)
            return
        try:
            here, there = socket.socketpair()
        except OSError:  # this process has no descriptors left
            self._session.reset(number)
            return
        here.setblocking(False)
        self._locals[number] = _Local(here, partial(self._on_local, number), _GIVE_BACK_THEIRS)
        self._theirs += 1
        self._update(number)
        self._outlet.opened(there, partial(self._reactor.ask, partial(self._break, number)))

    def _break(self, number: int) -> None:
        """Have a connection that the outlet is about to close end in a reset, behind all that it has said."""
        local = self._locals.get(number)
        if not local:
            return
        local.broken = True
        if not local.reads:
            self._abandon(number)
            self._flush()

    def _on_port(self, port: socket.socket, events: int) -> None:
        if events & READ:
            self._read_port(port)
        self._flush()

    def _read_port(self, port: socket.socket) -> None:
        try:
            size = port.recv_into(self._buffer)
        except (BlockingIOError, ConnectionResetError):
            return
        if not size:
            self._over = True
            self._reactor.forget(port.fileno())
            self._on_end()
            return
        self._heard = True
        for event in self._session.feed(self._buffer[:size]):
            self._take(event)

    def _take(self, event: yamux.Event) -> None:
        match event:
            case yamux.Opened(number):
                self._open_theirs(number)
            case yamux.Data(number, payload):
                self._deliver(number, payload)
            case yamux.Writable(number):
                self._update(number)
            case yamux.Finished(number):
                self._locals[number].finished = True
                self._finish_local(number)
            case yamux.Pong():
                # Nothing else is a sign of life: other bytes may be a command's.
                self._silent, self._owed = 0, False
            case yamux.Reset(number):
                self._locals[number].reads = False
                self._locals[number].finished = True
                self._finish_local(number)

    def _deliver(self, number: int, payload: memoryview) -> None:
        local = self._locals[number]
        sent = 0
        if not local.pending:
            try:
                sent = local.socket.send(payload)
            except BlockingIOError:
                pass
            except OSError:
                self._abandon(number)
                return
        if sent < len(payload):
            local.pending.append(bytes(payload[sent:]))
            self._update(number)
        self._give_back(number, sent)

    def _give_back(self, number: int, amount: int) -> None:
        local = self._locals[number]
        local.taken += amount
        if local.taken >= local.give_back:
            self._session.consumed(number, local.taken)
            local.taken = 0

    def _on_local(self, number: int, events: int) -> None:
        if events & WRITE:
            self._write_local(number)
        if events & READ and number in self._locals:
            self._read_local(number)
        elif events & HANG_UP and number in self._locals:
            self._hung_up(number)
        self._flush()

    def _hung_up(self, number: int) -> None:
        """The other end has gone with more to say than there is room for: the outlet has said all that it will."""
        local = self._locals[number]
        if number % 2 or not local.reads:
            self._abandon(number)
            return
        local.gone = True
        self._update(number)

    def _write_local(self, number: int) -> None:
        local = self._locals[number]
        try:
            while local.pending:
                sent = local.socket.send(local.pending[0])
                self._give_back(number, sent)
                if sent < len(local.pending[0]):
                    local.pending[0] = local.pending[0][sent:]
                else:
                    local.pending.popleft()
        except BlockingIOError:
            return
        except OSError:
            self._abandon(number)
            return
        self._finish_local(number)

    def _read_local(self, number: int) -> None:
        local = self._locals[number]
        # Many may have been ready at once, and those before this one may have filled the backlog.
        if self._congested or not local.reads or not (room := self._session.room(number)):
            return
        try:
            data = local.socket.recv(min(room, _LOCAL_CHUNK))
        except BlockingIOError:
            return
        except OSError:
            self._abandon(number)
            return
        if data:
            self._session.send(number, data)
            self._update(number)
            return
        if local.broken:
            self._abandon(number)
            return
        local.reads = False
        self._update(number)
        self._session.finish(number)
        self._drop_if_over(number)

    def _finish_local(self, number: int) -> None:
        """Pass the guest's end of stream on, once all that came before it has been taken."""
        local = self._locals[number]
        if local.finished and not local.pending:
            if not local.reads:
                self._drop(number)  # at once: half an end is seen for a whole one
                return
            with suppress(OSError):  # the caller may have gone already
                local.socket.shutdown(socket.SHUT_WR)
        self._update(number)

    def _drop_if_over(self, number: int) -> None:
        local = self._locals[number]
        if local.finished and not local.pending and not local.reads:
            self._drop(number)

    def _abandon(self, number: int) -> None:
        """The caller has gone without a word: tell the guest."""
        self._session.reset(number)
        self._drop(number)

    def _drop(self, number: int) -> None:
        local = self._locals.pop(number)
        self._theirs -= number % 2 == 0
        self._reactor.forget(local.socket.fileno())
        _close(local.socket)

    def _update(self, number: int) -> None:
        """Watch for just what can be done now."""
        local = self._locals[number]
        events = WRITE if local.pending else 0
        if local.reads and not self._congested and self._session.room(number):
            events |= READ
        if local.gone and not events:
            self._reactor.forget(local.socket.fileno())  # which would say without end that it is closed
        else:
            self._reactor.watch(local.socket.fileno(), events, local.ready)

    def _flush(self) -> None:
        """Send what the session has for the guest; what does not go now goes when the port is ready."""
        port = self._port
        if self._over or port is None:
            return
        outgoing = self._session.outgoing
        try:
            while outgoing:
                self._session.sent(port.sendmsg(list(islice(outgoing, 64))))
        except BlockingIOError:
            pass
        except OSError:
            return  # the monitor's end is noticed elsewhere
        self._reactor.watch(port.fileno(), READ | (WRITE if outgoing else 0), partial(self._on_port, port))
        self._note_congestion()

    def _note_congestion(self) -> None:
        congested = self._session.backlog > _BACKLOG
        if congested != self._congested:
            self._congested = congested
            for number in list(self._locals):
                self._update(number)


def _most_theirs() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_THEIRS if soft == resource.RLIM_INFINITY else min(_MOST_THEIRS, soft // _PART)


def _close(end: socket.socket) -> None:
    # Shut down first: a forked child may hold a copy, and closing ours alone would end nothing.
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
