"""The daemon against the same in this process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import aegis_sdk as aegis

_TASKS = 24
_RUN = (sys.executable, "-m", "aegis_cli", "run", "--", "true")


@contextmanager
def daemon() -> Iterator[aegis.Engine]:
    """The engine of a daemon that runs while the block lasts."""
    aegis.Daemon().start()
    try:
        yield aegis.connect()
    finally:
        aegis.Daemon().stop()


def command_line() -> tuple[float, float]:
    """``aegis run -- true``, in milliseconds: through the daemon, and in its own process; the best of each."""
    ours, floors = [], []
    for _ in range(4):
        with daemon():
            _seconds(*_RUN)
            ours += [_seconds(*_RUN) for _ in range(3)]
        floors += [_seconds(*_RUN) for _ in range(3)]
    return min(ours) * 1e3, min(floors) * 1e3


def execute() -> tuple[float, float]:
    """The round trip of ``run("true")``, in milliseconds: in a sandbox of the daemon's, and in one of this process."""
    ours, floors = [], []
    with daemon() as engine, aegis.Sandbox(engine=engine) as far, aegis.Sandbox() as near:
        for _ in range(100):
            ours.append(_round_trip(far))
            floors.append(_round_trip(near))
    return statistics.median(ours) * 1e3, statistics.median(floors) * 1e3


def tasks() -> tuple[float, float]:
    """Empty tasks a second, submitted at once; against cold boots a second, as many at once as the daemon does."""
    with daemon() as engine:
        aegis.Task.submit("true", engine=engine).wait()
        start = time.perf_counter()
        submitted = [aegis.Task.submit("true", engine=engine) for _ in range(_TASKS)]
        ended = [task.wait() for task in submitted]
        ours = _TASKS / (time.perf_counter() - start)
    if any(info.exit_code != 0 for info in ended):
        raise RuntimeError("a task has failed")
    return ours, _boots()


def _boots() -> float:
    at_once = max(2, os.cpu_count() or 1)

    def boot() -> None:
        for _ in range(_TASKS // at_once):
            with aegis.Sandbox() as vm:
                vm.run("true")

    threads = [threading.Thread(target=boot) for _ in range(at_once)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return _TASKS // at_once * at_once / (time.perf_counter() - start)


def _round_trip(vm: aegis.Sandbox) -> float:
    start = time.perf_counter()
    vm.run("true")
    return time.perf_counter() - start


def _seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start
