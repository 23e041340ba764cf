"""Apps."""

from __future__ import annotations

from aegis_daemon.bodies import Delete, NewApp
from aegis_daemon.calls import Call
from aegis_daemon.operations import Operations, Pace
from aegis_sdk.model import AppInfo

operations = Operations()


@operations.serve("GET", "/v1/apps")
def list_(call: Call) -> tuple[AppInfo, ...]:
    """All apps, in the order of their names."""
    return call.engine.apps.list()


@operations.serve("POST", "/v1/apps", status=201)
def create(call: Call, body: NewApp) -> AppInfo:
    """Make a new app."""
    return call.engine.apps.create(body.name)


@operations.serve("GET", "/v1/apps/{id}")
def get(call: Call, id: str) -> AppInfo:
    """An app, by its ID or its name."""
    return call.engine.apps.get(id)


@operations.serve("DELETE", "/v1/apps/{id}", pace=Pace.SLOW)
def delete(call: Call, id: str, query: Delete) -> None:
    """Delete an app with its secrets, and its workspace only if that is asked for."""
    call.engine.apps.delete(id, workspace=query.workspace)
