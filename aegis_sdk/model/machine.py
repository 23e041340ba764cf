"""What is found on the machine that guests run on."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class PluginInfo:
    """A plugin: what it provides, where it was loaded from, and what failed, empty if nothing did."""

    name: str
    version: str
    origin: str
    provides: tuple[str, ...] = ()
    error: str = ""


@attrs.frozen(kw_only=True)
class Check:
    """One thing that Aegis needs here: whether it is there, what was seen, and what mends it.

    *required* is false for what a guest can boot without.
    """

    name: str
    ok: bool
    seen: str
    fix: str = ""
    required: bool = True


@attrs.frozen(kw_only=True)
class DaemonStatus:
    """A daemon that runs: since *started*, in seconds since 1970, with that many guests and tasks.

    *router* is where its router answers; empty if it does not, and *router_fault* says why and what to do.
    """

    version: str
    pid: int
    home: str
    started: float
    sandboxes: int
    running_tasks: int
    queued_tasks: int
    router: str
    router_fault: str
