"""The daemon's tasks, and logs that are followed across its restarts."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import attrs

from aegis_sdk import wire
from aegis_sdk.engine.exchange import LONGEST_QUESTION, BrokenOff, Exchange, NotListening
from aegis_sdk.engine.guest_socket import GuestSocket
from aegis_sdk.model import LogEntry, TaskInfo, TaskSpec

_RESTART = 30.0  # seconds that a daemon may take to be back
_AGAIN = 0.2


@attrs.frozen
class RemoteTasks:
    """Those of the daemon's engine."""

    _daemon: Exchange
    _guests: GuestSocket
    _unattached: set[str] = attrs.field(factory=set, init=False)  # that were submitted here to be attached to

    def submit(self, spec: TaskSpec) -> TaskInfo:
        if not spec.attached:
            return self._submit(spec, lease=None)
        lease = self._guests.hang()
        try:
            info = self._submit(spec, lease=lease)
        except BaseException:
            self._guests.unhang()
            raise
        self._unattached.add(info.id)
        return info

    def attach(self, task: str) -> socket.socket:
        if task not in self._unattached:
            return self._guests.ask(attach=task)
        self._unattached.remove(task)
        try:
            return _Attached(self._guests.ask(attach=task), self._guests.unhang)
        except BaseException:
            self._guests.unhang()
            raise

    def get(self, task: str) -> TaskInfo:
        return self._daemon.ask("GET", "tasks", task, shape=TaskInfo)

    def list(self) -> tuple[TaskInfo, ...]:
        return self._daemon.ask("GET", "tasks", shape=tuple[TaskInfo, ...])

    def wait(self, task: str, *, timeout: float) -> TaskInfo:
        deadline = time.monotonic() + timeout
        while True:
            left = max(0.0, deadline - time.monotonic())
            query = {"timeout": min(left, LONGEST_QUESTION)}
            info = self._daemon.ask("GET", "tasks", task, "wait", query=query, shape=TaskInfo)
            if info.state.terminal or left <= LONGEST_QUESTION:
                return info

    def cancel(self, task: str) -> TaskInfo:
        return self._daemon.ask("DELETE", "tasks", task, shape=TaskInfo)

    def logs(self, task: str, *, follow: bool = False, since: int = 0, tail: int | None = None) -> Iterator[LogEntry]:
        return entries(self._daemon, "tasks", task, follow=follow, since=since, tail=tail)

    def _submit(self, spec: TaskSpec, *, lease: str | None) -> TaskInfo:
        return self._daemon.ask("POST", "tasks", body={**wire.to_json(spec), "lease": lease}, shape=TaskInfo)


class _Attached(socket.socket):
    """The connection of an attached task, which hangs on the lease until this is closed."""

    def __init__(self, connection: socket.socket, unhang: Callable[[], None]) -> None:
        super().__init__(fileno=connection.detach())
        self._unhang = unhang

    def close(self) -> None:
        if self.fileno() >= 0:
            super().close()
            self._unhang()


def entries(
    daemon: Exchange, *place: str, follow: bool, since: int, tail: int | None, release: str | None = None
) -> Iterator[LogEntry]:
    """A log's entries; one that is followed goes on where it was when a daemon that has ended is back in time."""
    lost: float | None = None  # the moment since which there is no daemon
    while True:
        query = {"follow": follow, "since": since, "tail": tail, "release": release}
        try:
            with closing(daemon.lines("GET", *place, "logs", query=query)) as lines:
                for line in lines:
                    entry = daemon.understood(line, LogEntry)
                    since, tail, lost = entry.sequence, None, None
                    yield entry
            return
        except (NotListening, BrokenOff) as error:
            now = time.monotonic()
            if lost is None and isinstance(error, BrokenOff):
                lost = now
            if not follow or lost is None or now - lost > _RESTART:
                raise
        time.sleep(_AGAIN)
