"""What a task's guest tries to reach, written to a file while it runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import aegis_sdk as aegis
from aegis_cli.words import say

_NETWORK = "network"
_PATIENCE = 30.0  # seconds, for a log that has ended, or whose daemon has


@contextmanager
def written(task: aegis.Task, file: IO[str]) -> Iterator[None]:
    """Write each attempt of *task*, which ends within the block, to *file* as a line of JSON; all are there behind."""
    writer = threading.Thread(target=_write, args=(task, file), daemon=True)
    writer.start()
    try:
        yield
    finally:
        writer.join(_PATIENCE)
        if writer.is_alive():
            say("aegis: the network log is not complete: the task's log has not ended")


def _write(task: aegis.Task, file: IO[str]) -> None:
    try:
        for entry in task.logs(follow=True):
            if entry.source == _NETWORK:
                file.write(entry.text)
        file.flush()
    except (aegis.AegisError, OSError) as error:
        say(f"aegis: the network log is not complete: {error}")
