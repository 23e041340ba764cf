"""What serves an app, awake or asleep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

import attrs

from aegis_sdk.engine.attempts import events
from aegis_sdk.engine.base import Engine
from aegis_sdk.errors import AppNotFound, NotServed
from aegis_sdk.model import InstanceInfo, InstanceState, LogEntry, NetworkEvent
from aegis_sdk.sandbox import Sandbox


class Instance:
    """What serves one release of an app: ``App.serve`` makes it, ``App.instances`` finds it again.

    It sleeps when nobody asks for it, and a request to its ``url`` wakes it. A ``with`` block stops it at its end.
    Without one it serves on until ``stop``, with the engine in this process until that ends.
    """

    def __init__(self, engine: Engine, info: InstanceInfo) -> None:
        self._engine, self._first = engine, info

    @property
    def id(self) -> str:
        """What it is called: the same for as long as there is its release."""
        return self._first.id

    @property
    def app(self) -> str:
        """The name of its app."""
        return self._first.name

    @property
    def release(self) -> str:
        """The ID of its release."""
        return self._first.release

    @property
    def label(self) -> str | None:
        """The label of its release."""
        return self._first.label

    @property
    def url(self) -> str:
        """Where the router answers for its app; empty if that has no HTTP port."""
        return self._first.url

    @property
    def addresses(self) -> Mapping[str, str]:
        """Where its other ports are, such as ``{"5432/tcp": "127.0.0.1:15432"}``."""
        return self._first.addresses

    @property
    def state(self) -> InstanceState:
        """What it does now."""
        return self.info().state

    @property
    def sandbox(self) -> Sandbox:
        """Its guest, to run commands in and to look at its files; it is woken first if it sleeps. NotServed.

        To close that object ends only the commands that were started by it.
        """
        info = self._engine.apps.wake(self._first.app, release=self.release)
        if info.sandbox is None:
            raise NotServed(f"the app {self.app} has gone back to sleep")
        return Sandbox.get(info.sandbox, engine=self._engine)

    def info(self) -> InstanceInfo:
        """What it is, and what it does now: STOPPED also if it does not serve any more. AppNotFound."""
        for info in self._engine.apps.instances(self._first.app):
            if info.id == self.id:
                return info
        return attrs.evolve(self._first, state=InstanceState.STOPPED, reason="it is not served", sandbox=None)

    def logs(self, *, follow: bool = False, since: int = 0, tail: int | None = None) -> Iterator[LogEntry]:
        """What it says and has said, over all its boots: the entries after number *since*, the last *tail* of these.

        Their sources are ``boot`` (the console), ``server``, ``exec`` and ``system`` (what has become of it). With
        *follow* it goes on until it serves no more.
        """
        return self._engine.apps.logs(self._first.app, release=self.release, follow=follow, since=since, tail=tail)

    def network_events(self) -> tuple[NetworkEvent, ...]:
        """What its guests have tried to reach, in order, as its log has it: of what is over."""
        return tuple(events(self.logs()))

    def wake(self) -> InstanceInfo:
        """Have it run, as a request would; NotServed, ServerFailed."""
        return self._engine.apps.wake(self._first.app, release=self.release)

    def stop(self) -> None:
        """Have it serve no more; its guest ends. Fine if it has stopped, or its app was deleted."""
        with suppress(AppNotFound):
            self._engine.apps.stop(self._first.app, release=self.release)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Instance {self.id} of app {self.app}>"
