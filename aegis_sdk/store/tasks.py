"""The records of tasks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import attrs

from aegis_sdk.errors import InvalidValue, TaskNotFound
from aegis_sdk.model import TaskInfo, TaskState
from aegis_sdk.store import owners
from aegis_sdk.store.database import Database

#: So many tasks that have ended are remembered; of those before them, neither record nor log is kept.
REMEMBERED = 500
_ENDED = tuple(state for state in TaskState if state.terminal)
_INSERT = """
    INSERT INTO tasks (id, number, owner, state, command, image, app, timeout, created)
    SELECT :id, ifnull(max(number), 0) + 1, :owner, :state, :command, :image, :app, :timeout, :created FROM tasks
"""
_FORGET = f"""
    DELETE FROM tasks WHERE state IN ({", ".join(f"'{state}'" for state in _ENDED)})
    AND number <= (SELECT max(number) FROM tasks) - ? RETURNING id
"""  # noqa: S608  # the states are ours


@attrs.frozen
class TaskRecords:
    """The tasks of one home, and, by the files in *owners*, which of those who run them live."""

    _database: Database
    _owners: Path

    def add(self, info: TaskInfo, owner: str) -> tuple[str, ...]:
        """Have a new task, which *owner* runs; the IDs of those that are forgotten for it."""
        with self._database.write() as rows:
            rows.execute(_INSERT, {**attrs.asdict(info), "command": json.dumps(info.command), "owner": owner})
            return tuple(row["id"] for row in rows.execute(_FORGET, (REMEMBERED,)).fetchall())

    def get(self, task: str) -> TaskInfo:
        """The task with that ID, or the one whose ID begins so; TaskNotFound, InvalidValue if several do."""
        return _info(self._row(task))

    def owner(self, task: str) -> Path:
        """The file of the owner of a task, by its whole ID."""
        return self._owners / str(self._row(task)["owner"])

    def all(self) -> tuple[TaskInfo, ...]:
        """All of them, in the order in which they were submitted."""
        with self._database.read() as rows:
            return tuple(map(_info, rows.execute("SELECT * FROM tasks ORDER BY number").fetchall()))

    def move(self, task: str, to: TaskState, *, out_of: TaskState | None = None, **fields: object) -> TaskInfo | None:
        """Have a task, by its whole ID, in state *to*, with *fields*; None if that may not follow the one it is in.

        Nor if that is another one than *out_of*. This is the only place where the state of a task changes.
        """
        before = [state for state in TaskState if state.may_become(to) and out_of in (None, state)]
        values = [json.dumps(value) if isinstance(value, dict) else value for value in fields.values()]
        names = ", ".join(f"{name} = ?" for name in ("state", *fields))
        places = ", ".join("?" * len(before))
        statement = f"UPDATE tasks SET {names} WHERE id = ? AND state IN ({places}) RETURNING *"  # noqa: S608  # ours
        with self._database.write() as rows:
            row = rows.execute(statement, (to, *values, task, *before)).fetchone()
        return _info(row) if row else None

    def orphans(self) -> Iterator[TaskInfo]:
        """The tasks that have not ended, and whose owners have."""
        with self._database.read() as rows:
            found = rows.execute("SELECT * FROM tasks WHERE state IN (?, ?)", (TaskState.QUEUED, TaskState.RUNNING))
            under_way = found.fetchall()
        living = {name: owners.lives(self._owners / name) for name in {row["owner"] for row in under_way}}
        yield from (_info(row) for row in under_way if not living[row["owner"]])

    def _row(self, task: str) -> sqlite3.Row:
        with self._database.read() as rows:
            found = rows.execute(
                "SELECT * FROM tasks WHERE substr(id, 1, ?) = ? ORDER BY id = ? DESC LIMIT 2", (len(task), task, task)
            ).fetchall()
        if not found or not task:
            raise TaskNotFound(f"there is no task {task}", hint="`aegis task list` shows those that there are")
        if len(found) > 1 and found[0]["id"] != task:
            raise InvalidValue(f"more than one task has an ID that begins with {task}", hint="write more of it")
        row: sqlite3.Row = found[0]
        return row


def _info(row: sqlite3.Row) -> TaskInfo:
    fields = {field.name: row[field.name] for field in attrs.fields(TaskInfo)}
    read = {"state": TaskState(row["state"]), "command": tuple(json.loads(row["command"]))}
    return TaskInfo(**fields | read | {"addresses": json.loads(row["addresses"])})
