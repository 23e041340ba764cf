"""Tasks."""

from __future__ import annotations

from aegis_daemon.bodies import Logs, NewTask, Wait
from aegis_daemon.calls import Call
from aegis_daemon.lines import Batches
from aegis_daemon.operations import Operations, Pace
from aegis_sdk.errors import InvalidValue
from aegis_sdk.model import LogEntry, TaskInfo

operations = Operations()


@operations.serve("GET", "/v1/tasks")
def list_(call: Call) -> tuple[TaskInfo, ...]:
    """All tasks on record, in the order in which they were submitted."""
    return call.engine.tasks.list()


@operations.serve("POST", "/v1/tasks", status=201)
def submit(call: Call, body: NewTask) -> TaskInfo:
    """Have a task run, when its turn comes; it is on record when this is answered."""
    spec, lease = body.spec, body.lease
    if lease is None:
        if spec.attached:
            raise InvalidValue("an attached task needs a lease", hint="ask the socket guests.sock for one")
        return call.engine.tasks.submit(spec)
    call.daemon.leases.check(lease)
    info = call.engine.tasks.submit(spec)
    call.daemon.leases.hang(lease, f"task {info.id}", lambda: call.engine.tasks.cancel(info.id))
    return info


@operations.serve("GET", "/v1/tasks/{id}")
def get(call: Call, id: str) -> TaskInfo:
    """A task."""
    return call.engine.tasks.get(id)


@operations.serve("DELETE", "/v1/tasks/{id}", pace=Pace.SLOW)
def cancel(call: Call, id: str) -> TaskInfo:
    """Have a task end, its command by SIGTERM first; fine if it has ended."""
    return call.engine.tasks.cancel(id)


@operations.serve("GET", "/v1/tasks/{id}/wait", pace=Pace.SLOW)
def wait(call: Call, id: str, query: Wait) -> TaskInfo:
    """A task, when it is in a terminal state, or else when the time is over."""
    tasks = call.engine.tasks
    return call.wait(query.timeout, lambda left: tasks.wait(id, timeout=left), done=lambda info: info.state.terminal)


@operations.serve("GET", "/v1/tasks/{id}/logs", pace=Pace.LINES)
def logs(call: Call, id: str, query: Logs) -> Batches[LogEntry]:
    """The log of a task, an entry a line; with follow until the task has ended, else what is there."""
    return call.engine.tasks.reader(id, follow=query.follow, since=query.since, tail=query.tail)
