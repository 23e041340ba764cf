"""What the router asks of who runs the apps and of policies, and the values that pass between them."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Protocol

import attrs

from aegis_sdk.routing.heads import RequestHead
from aegis_sdk.routing.refusals import Refuse


@attrs.frozen(kw_only=True)
class ServedInstance:
    """One guest, awake or not, that serves one release of an app; *ports* are what it exposes, the first by default.

    *awake* is whether it ran when this was looked at. A request to one that does not wakes it.
    """

    id: str
    release: str  # the release's label, or its ID if it has none
    ports: tuple[int, ...]
    awake: bool


@attrs.frozen(kw_only=True)
class ServedApp:
    """An app, and what serves it: the first instance unless a policy says otherwise; none if it is not served.

    A *task* that can be reached is one, too, for as long as it runs, and so is a sandbox.
    """

    id: str
    name: str
    instances: tuple[ServedInstance, ...] = ()
    task: bool = False


#: All apps by their names.
Apps = Mapping[str, ServedApp]


@attrs.frozen(kw_only=True)
class Serve:
    """Pass the request to *port* of *app*: of the instance of *release*, or, if that is None, of the app's first.

    An instance that sleeps is woken, and the request waits for it, at most *wait* seconds; then the answer is a 503
    that says when to try again, and to a browser that *reload*s, a page that does so, while the waking goes on.
    *prefix* is taken from the beginning of the path.
    """

    app: str
    port: int
    release: str | None = None
    prefix: str = ""
    wait: float = 30.0
    reload: bool = False


@attrs.frozen
class Redirect:
    """Tell the client to ask for *location*, a path of this host with its query."""

    location: str


Decision = Serve | Redirect | Refuse


class RoutingPolicy(Protocol):
    """A rule of where requests go: a pure function, which is called in the router's thread and must be quick."""

    @property
    def name(self) -> str:
        """What lists and messages call it."""

    def route(self, request: RequestHead, apps: Apps, so_far: Decision) -> Decision:
        """Where *request* goes; *so_far* is what the policies before this one say, the first of which is built in."""


class Asleep(Exception):  # it is a state, and no fault
    """The instance is not awake (any more): it takes a ``wake`` before it can be dialled."""


class Backends(Protocol):
    """Who runs the apps. ``snapshot``, ``hold`` and ``let_go`` are called for every request and must not wait.

    ``wake`` and ``dial`` are called in threads, and may. They raise errors of errors.py, whose messages the client
    of the request gets to read, or OSError.
    """

    def snapshot(self) -> Apps:
        """All apps as they are now."""

    def hold(self, instance: str) -> bool:
        """Count one more user of *instance*: it must not be put to sleep until ``let_go``. False if it is not awake.

        True is a promise: whatever would pause or stop it for being idle from now on sees the user. An instance that
        is there no more is not awake, and its ``wake`` says so.
        """

    def let_go(self, instance: str) -> None:
        """Count one user less."""

    def wake(self, instance: str) -> None:
        """Return when *instance* is ready. One call at a time for each instance, however many requests wait for it."""

    def dial(self, instance: str, port: int, *, timeout: float) -> socket.socket:
        """A connection to *port* in *instance*; Asleep if it sleeps, TimeoutError if that takes longer than *timeout*.

        Several calls at a time.
        """
