"""What a route's verb is given beside what was asked: the daemon's parts, and the client that waits for the answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import attrs

from aegis_daemon.leases import Leases
from aegis_sdk.engine.local import LocalEngine
from aegis_sdk.errors import AegisError
from aegis_sdk.model import DaemonStatus, Progress

T = TypeVar("T")
_SLICE = 2.0  # seconds after which a client's going is noticed at the latest


class ClientGone(AegisError):
    """Nobody waits for the answer any more: what is being made for it is given up."""

    code = "client-gone"


@attrs.frozen(kw_only=True)
class Daemon:
    """What all routes share."""

    engine: LocalEngine
    leases: Leases
    status: Callable[[], DaemonStatus]
    #: Has the daemon end, its kept sandboxes to be started again or not.
    end: Callable[[bool], None]


@attrs.frozen
class Call:
    """One request, while it is served."""

    daemon: Daemon
    gone: threading.Event
    tell: Callable[[Progress], None] = lambda _: None

    @property
    def engine(self) -> LocalEngine:
        return self.daemon.engine

    def report(self, progress: Progress) -> None:
        """Tell the client how far its image is; ClientGone, which ends the pull, if there is none any more."""
        self.check()
        self.tell(progress)

    def check(self) -> None:
        """ClientGone if the client has left."""
        if self.gone.is_set():
            raise ClientGone("the client has left")

    def wait(self, timeout: float, look: Callable[[float], T], *, done: Callable[[T], bool]) -> T:
        """What *look*, called with seconds to wait, finds when it is *done*, or at last; ClientGone as it happens."""
        deadline = time.monotonic() + timeout
        while True:
            left = max(0.0, deadline - time.monotonic())
            found = look(min(left, _SLICE))
            if left <= _SLICE or done(found):
                return found
            self.check()
