"""Apps."""

from __future__ import annotations

from aegis_daemon.bodies import (
    Delete,
    Exited,
    LogsOfRelease,
    NewApp,
    NewCommand,
    Publish,
    Release,
    Serve,
    Stderr,
    Stdout,
)
from aegis_daemon.calls import Call
from aegis_daemon.execution import Execution
from aegis_daemon.lines import Batches, Values
from aegis_daemon.operations import Operations, Pace
from aegis_sdk.model import AppInfo, AppSpec, InstanceInfo, LogEntry, ReleaseInfo

operations = Operations()


@operations.serve("GET", "/v1/apps")
def list_(call: Call) -> tuple[AppInfo, ...]:
    """All apps, in the order of their names."""
    return call.engine.apps.list()


@operations.serve("POST", "/v1/apps", status=201)
def create(call: Call, body: NewApp) -> AppInfo:
    """Make a new app."""
    return call.engine.apps.create(body.name, body.spec)


@operations.serve("GET", "/v1/apps/{id}")
def get(call: Call, id: str) -> AppInfo:
    """An app, by its ID or its name."""
    return call.engine.apps.get(id)


@operations.serve("PUT", "/v1/apps/{id}")
def update(call: Call, id: str, body: AppSpec) -> AppInfo:
    """Have the next release of an app be as this says; those that there are, and what is served, stay."""
    return call.engine.apps.update(id, body)


@operations.serve("DELETE", "/v1/apps/{id}", pace=Pace.SLOW)
def delete(call: Call, id: str, query: Delete) -> None:
    """Stop an app, and delete it with its releases, logs and secrets; its workspace only if that is asked for."""
    call.engine.apps.delete(id, workspace=query.workspace)


@operations.serve("GET", "/v1/apps/{id}/releases")
def releases(call: Call, id: str) -> tuple[ReleaseInfo, ...]:
    """An app's releases, the newest last."""
    return call.engine.apps.releases(id)


@operations.serve("POST", "/v1/apps/{id}/releases", pace=Pace.REPORTS, status=201)
def publish(call: Call, id: str, body: Publish) -> ReleaseInfo:
    """Freeze an app as it is now, its image by digest, which is kept."""
    return call.engine.apps.publish(id, label=body.label, report=call.report)


@operations.serve("POST", "/v1/apps/{id}/serve", pace=Pace.REPORTS)
def serve(call: Call, id: str, body: Serve) -> InstanceInfo:
    """Have an app served by a release, by default its newest; it is ready when this is answered."""
    return call.engine.apps.serve(id, release=body.release, beside=body.beside, report=call.report)


@operations.serve("POST", "/v1/apps/{id}/stop", pace=Pace.SLOW)
def stop(call: Call, id: str, body: Release) -> None:
    """Have an app, or only one of its releases, served no more; fine if it is not."""
    call.engine.apps.stop(id, release=body.release)


@operations.serve("POST", "/v1/apps/{id}/wake", pace=Pace.SLOW)
def wake(call: Call, id: str, body: Release) -> InstanceInfo:
    """Have an instance of an app run, by default the one that serves requests; it does when this is answered."""
    return call.engine.apps.wake(id, release=body.release)


@operations.serve("GET", "/v1/apps/{id}/instances")
def instances_of(call: Call, id: str) -> tuple[InstanceInfo, ...]:
    """What serves an app; the first one serves requests by default."""
    return call.engine.apps.instances(id)


@operations.serve("GET", "/v1/instances")
def instances(call: Call) -> tuple[InstanceInfo, ...]:
    """What serves, of all apps."""
    return call.engine.apps.instances()


@operations.serve("GET", "/v1/apps/{id}/logs", pace=Pace.LINES)
def logs(call: Call, id: str, query: LogsOfRelease) -> Batches[LogEntry]:
    """The log of an instance, an entry a line; with follow until it serves no more, else what is there."""
    return call.engine.apps.reader(id, release=query.release, follow=query.follow, since=query.since, tail=query.tail)


@operations.serve("POST", "/v1/apps/{id}/exec", pace=Pace.LINES)
def run(call: Call, id: str, body: NewCommand) -> Values[Stdout | Stderr | Exited]:
    """Wake an app, and run a command where it is served, as in a sandbox; the instance's log has what it says, too."""
    guest = call.engine.apps.wake(id).sandbox
    return Execution(call.engine, guest or "", body, log=call.engine.serving.log(id))
