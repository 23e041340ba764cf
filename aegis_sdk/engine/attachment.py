"""The connection between a task and the one client that is attached to it."""

from __future__ import annotations

import socket
import threading

from aegis_sdk.errors import InvalidValue


class Attachment:
    """Both ends of it: *ours* is the task's, the other somebody's who claims it, once."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()
        self._claimed = threading.Event()
        self._lock = threading.Lock()
        self._free = True

    def claim(self) -> socket.socket:
        """The client's end; InvalidValue if somebody has it, or it was given up."""
        with self._lock:
            if not self._free:
                raise InvalidValue("somebody else is, or was, attached to this task")
            self._free = False
        self._claimed.set()
        return self._theirs

    def expect(self, seconds: float) -> None:
        """Wait until it is claimed; after *seconds* it is given up, and nobody can claim it any more."""
        self._claimed.wait(seconds)
        with self._lock:
            if not self._free:
                return
            self._free = False
        self._theirs.close()
