"""Tasks of the engine in this process: it runs those that were submitted to it, and knows all of its home."""

from __future__ import annotations

import atexit
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from aegis_sdk.config import Config
from aegis_sdk.engine import cancelling
from aegis_sdk.engine.attachment import Attachment
from aegis_sdk.engine.exposed import ExposedTask
from aegis_sdk.engine.queue import Queue
from aegis_sdk.engine.run import Run, Verdict, guest_of
from aegis_sdk.errors import AegisError, InvalidValue, StoreFailed, Unavailable
from aegis_sdk.model import LogEntry, Port, TaskInfo, TaskSpec, TaskState, signal_name
from aegis_sdk.mount import Mount
from aegis_sdk.store import owners
from aegis_sdk.store.logs import Log
from aegis_sdk.store.owners import Owner
from aegis_sdk.store.reader import LogReader
from aegis_sdk.store.tasks import TaskRecords

if TYPE_CHECKING:
    from aegis_sdk.engine.local import LocalEngine

_GLANCE = 0.5  # Ctrl-C is heard in between, whichever thread the kernel gives it to
_AGAIN = 1.0  # until an end that could not be put on record is tried again
_CLAIM = 30.0  # for a client to attach itself to a task that has ended meanwhile
_CLOSE = 20.0  # for all tasks to end
_CANCELLED = "it was cancelled"
_NOWHERE: dict[str, Any] = {"sandbox": None, "url": "", "addresses": {}}  # Any: each column has a type of its own
_ORPHANED = "the process that ran it has ended"


@attrs.define(eq=False)
class _Own:
    """A task that was submitted here."""

    id: str
    app: str | None
    owner: str
    expose: tuple[Port, ...]
    run: Run
    log: Log
    attachment: Attachment | None
    over: bool = False


class LocalTasks:
    """The tasks on record in a home, of which this runs its own. Those whose owner has ended have failed."""

    def __init__(self, engine: LocalEngine, records: TaskRecords, config: Config) -> None:
        self._engine, self._records = engine, records
        self._logs, self._owners = config.logs / "tasks", config.owners
        self._queue = Queue(config.task_guests)
        self._own: dict[str, _Own] = {}
        self._owner: Owner | None = None  # until a task is submitted here
        self._closed = threading.Event()
        self._changed = threading.Condition()
        owners.sweep(self._owners)
        self._recover()
        atexit.register(_close, weakref.ref(self), os.getpid())

    def submit(self, spec: TaskSpec) -> TaskInfo:
        app = self._engine.apps.get(spec.app) if spec.app is not None else None
        if app:
            mount = Mount(str(self._engine.apps.workspace(app.id)), "/workspace")
            sandbox = attrs.evolve(spec.sandbox, mounts=(*spec.sandbox.mounts, mount))
            spec = attrs.evolve(spec, sandbox=sandbox)
        info = TaskInfo(
            id=os.urandom(6).hex(),
            state=TaskState.QUEUED,
            command=spec.command,
            image=spec.sandbox.image,
            app=app.id if app else None,
            timeout=spec.timeout,
            created=time.time(),
        )
        own = self._owned(info, spec)
        try:
            self._forget(self._records.add(info, own.owner))
            self._queue.put(partial(self._work, own))
        except BaseException:
            self._drop(own)
            self._forget((info.id,))
            raise
        return info

    def attach(self, task: str) -> socket.socket:
        info = self.get(task)
        own = self._own.get(info.id)
        if own and own.attachment:
            return own.attachment.claim()
        why = "has ended" if info.state.terminal else "runs unattended" if own else "belongs to another process"
        raise InvalidValue(f"nobody can attach to task {info.id}: it {why}")

    def get(self, task: str) -> TaskInfo:
        info = self._records.get(task)
        if info.state.terminal or info.id in self._own or owners.lives(self._records.owner(info.id)):
            return info
        self._recover()
        return self._records.get(info.id)

    def list(self) -> tuple[TaskInfo, ...]:
        self._recover()
        return self._records.all()

    def wait(self, task: str, *, timeout: float) -> TaskInfo:
        deadline = time.monotonic() + timeout
        info = self.get(task)
        if info.state.terminal:
            return info
        if own := self._own.get(info.id):
            while not own.over and (left := deadline - time.monotonic()) > 0:
                with self._changed:
                    self._changed.wait_for(lambda: own.over, min(left, _GLANCE))
        else:
            with self.reader(info.id, follow=True, tail=0) as reader:
                while not reader.ended and (left := deadline - time.monotonic()) > 0:
                    if not reader.read():
                        reader.wait(min(left, _GLANCE))
        return self.get(info.id)

    def cancel(self, task: str) -> TaskInfo:
        info = self.get(task)
        if info.state is TaskState.QUEUED and self._cancel_queued(info.id, _CANCELLED):
            return self._records.get(info.id)
        if not info.state.terminal:
            cancelling.ask(self._pipe(info.id))
        return self.get(info.id)

    def logs(self, task: str, *, follow: bool = False, since: int = 0, tail: int | None = None) -> Iterator[LogEntry]:
        task = self.get(task).id

        def entries() -> Iterator[LogEntry]:
            yield from self.reader(task, follow=follow, since=since, tail=tail)

        return entries()

    def reader(self, task: str, *, follow: bool = False, since: int = 0, tail: int | None = None) -> LogReader:
        """The same, for who waits for many things at once."""
        info = self.get(task)
        owner = self._records.owner(info.id) if follow else None
        return LogReader(self._logs / info.id, since=since, tail=tail, follow=follow, owner=owner)

    def close(self) -> None:
        """Cancel all tasks of this engine, and wait for their end."""
        reason = "its engine was closed"
        self._closed.set()
        for own in list(self._own.values()):
            if not own.over and not self._cancel_queued(own.id, reason):
                own.run.abandon(reason)
        with self._changed:
            self._changed.wait_for(lambda: all(own.over for own in self._own.values()), _CLOSE)

    def _owned(self, info: TaskInfo, spec: TaskSpec) -> _Own:
        """A task of ours, which lives as long as we do."""
        log = self._log(info.id)
        with self._changed:
            if self._closed.is_set():
                raise Unavailable("this engine has been closed")
            if not self._owner:
                self._owner = Owner(self._owners)
            attachment = Attachment() if spec.attached else None
            run = Run(self._engine, info.id, spec, log=log, attached=attachment.ours if attachment else None)
            own = _Own(info.id, info.app, self._owner.name, spec.expose, run, log, attachment)
            self._own[info.id] = own
        return own

    def _drop(self, own: _Own) -> None:
        """Let go of a task that has ended."""
        if own.attachment:
            own.attachment.expect(0)
        own.run.settle()
        with self._changed:
            del self._own[own.id]
            if not self._own and self._owner:
                self._owner.close()
                self._owner = None

    def _work(self, own: _Own) -> partial[None]:
        """Run a task, whose turn has come; what is left to be done when it has ended."""
        try:
            verdict = self._verdict(own)
        except AegisError as error:
            verdict = Verdict(TaskState.FAILED, str(error))
        except Exception as error:  # noqa: BLE001  # a fault of ours is to end this task, and no other
            verdict = Verdict(TaskState.FAILED, f"Aegis itself failed: {error!r}")
        if verdict:
            self._settle(own, verdict)
        return partial(self._part, own)

    def _verdict(self, own: _Own) -> Verdict | None:
        guest = guest_of(own.id)
        with (
            closing(self._listen(own.id)) as asked,
            ExposedTask(self._engine, own.id, guest, own.expose) as exposed,
        ):
            if not self._records.move(own.id, TaskState.RUNNING, started=time.time(), sandbox=guest, **exposed.where):
                return None  # it was cancelled in the queue
            environment = self._engine.secrets.environment(own.app) if own.app else {}
            return own.run.run(environment, asked, begun=exposed.begin)

    def _settle(self, own: _Own, verdict: Verdict) -> None:
        """Put a task's end on record; its guest is gone by now."""
        if verdict.exit is None or verdict.state in (TaskState.TIMED_OUT, TaskState.CANCELLED):
            own.log.say(verdict.reason)
        own.log.flush()
        end = verdict.exit
        fields: dict[str, Any] = {  # as above
            "ended": time.time(),
            "exit_code": end.code if end else None,
            "signal": signal_name(end.signal) if end else None,
            "reason": verdict.reason,
            **_NOWHERE,
        }
        while True:
            try:
                self._records.move(own.id, verdict.state, **fields)
                break
            except StoreFailed:  # the disk may be full
                if self._closed.wait(_AGAIN):
                    break
        self._end(own)

    def _end(self, own: _Own) -> None:
        own.log.end()
        with self._changed:
            own.over = True
            self._changed.notify_all()

    def _part(self, own: _Own) -> None:
        """Part with who is attached, when that one has all."""
        if own.attachment:
            own.attachment.expect(_CLAIM)
        self._drop(own)

    def _cancel_queued(self, task: str, reason: str) -> bool:
        if not self._records.move(task, TaskState.CANCELLED, out_of=TaskState.QUEUED, ended=time.time(), reason=reason):
            return False
        own = self._own.get(task)
        log = own.log if own else self._log(task)
        log.say(reason)
        log.end()
        if own:
            own.run.settle()
            self._end(own)
        return True

    def _recover(self) -> None:
        for orphan in self._records.orphans():
            if self._records.move(orphan.id, TaskState.FAILED, ended=time.time(), reason=_ORPHANED, **_NOWHERE):
                log = self._log(orphan.id)
                log.say(_ORPHANED)
                log.end()

    def _log(self, task: str) -> Log:
        try:
            return Log(self._logs / task)
        except OSError as error:
            raise StoreFailed(f"there can be no log in {self._logs}: {error.strerror}") from error

    def _listen(self, task: str) -> cancelling.Cancelling:
        try:
            return cancelling.Cancelling(self._pipe(task))
        except OSError as error:
            raise StoreFailed(f"nothing can be made in {self._logs}: {error.strerror}") from error

    def _pipe(self, task: str) -> Path:
        return self._logs / task / "cancel"

    def _forget(self, tasks: tuple[str, ...]) -> None:
        for task in tasks:
            import shutil

            shutil.rmtree(self._logs / task, ignore_errors=True)


def _close(tasks: weakref.ref[LocalTasks], process: int) -> None:
    """At the interpreter's end, which a forked child's is not."""
    known = tasks()
    if known and os.getpid() == process:
        known.close()
