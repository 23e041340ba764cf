"""Instances: the guests that serve apps, awake or asleep."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

from aegis_sdk.model.fixed import Fixed


class InstanceState(enum.StrEnum):
    """What an instance does. All but RUNNING answer a request only after a wake; FAILED waits for its owner."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    FAILED = "FAILED"


@attrs.frozen(kw_only=True)
class InstanceInfo:
    """The instance that serves *release*, an ID, of *app*, an ID, as it was when it was asked for.

    *since* is when it came into its state, in seconds since 1970, and *reason* why, where that is not plain. *url* is
    where the router answers for it, empty if it has no HTTP port; *addresses* are those of its other ports, such as
    ``{"5432/tcp": "127.0.0.1:15432"}``. *sandbox* is the name of its guest while it has one.
    """

    id: str
    app: str
    name: str
    release: str
    label: str | None
    state: InstanceState
    since: float
    reason: str = ""
    url: str = ""
    addresses: Mapping[str, str] = attrs.field(factory=dict, converter=Fixed)
    sandbox: str | None = None
