"""Engines of homes, what Aegis does not do to their records, and children that are forked to be killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import traceback
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import FrameType
from typing import Any

from aegis_sdk.config import Config
from aegis_sdk.engine.local import LocalEngine


def engine_at(home: Path | str, *, keeps: bool = False) -> LocalEngine:
    """An engine of that home."""
    return LocalEngine(Config.from_environment({"AEGIS_HOME": str(home)}), keeps=keeps)


def change(home: Path, statement: str, *values: object) -> None:
    """Do to the records what Aegis does not."""
    with closing(sqlite3.connect(home / "data" / "aegis.db")) as connection, connection:
        connection.execute(statement, values)


def sound(home: Path) -> bool:
    """Whether SQLite finds the records whole, and each of them where it belongs."""
    connection = sqlite3.connect(home / "data" / "aegis.db")
    try:
        found = connection.execute("PRAGMA integrity_check").fetchall()
        return found == [("ok",)] and not connection.execute("PRAGMA foreign_key_check").fetchall()
    finally:
        connection.close()


def in_a_child(work: Callable[[], object]) -> int:
    """Do *work* in a forked child; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001  # no child may go on with the tests
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(step: int, work: Callable[[], object]) -> None:
    """Do *work*, and die of SIGKILL at that line of those of the store that it comes through."""
    lines = 0

    def each(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if "aegis_sdk/store" not in frame.f_code.co_filename:
            return None
        if event == "line" and (lines := lines + 1) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return each

    sys.settrace(each)
    work()
