"""The logs of an engine's instances: each goes on over stops and boots, and with its engine, unless that keeps it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from aegis_sdk.config import Config
from aegis_sdk.errors import StoreFailed
from aegis_sdk.store import owners
from aegis_sdk.store.logs import Log
from aegis_sdk.store.owners import Owner
from aegis_sdk.store.reader import LogReader


class InstanceLogs:
    """They, by the IDs of the instances. Any thread may use it."""

    def __init__(self, config: Config, *, keeps: bool) -> None:
        """Without *keeps* they go with this object, or are swept by the next one if its process is killed."""
        self._config = config
        self._directory = config.logs / "instances" if keeps else None
        self._logs: dict[str, Log] = {}
        self._owner: Owner | None = None  # of a directory that goes
        self._lock = threading.Lock()
        _sweep(config)

    def log(self, instance: str) -> Log:
        """The one log of an instance; StoreFailed."""
        with self._lock:
            if (known := self._logs.get(instance)) is None:
                directory = self._place() / instance
                try:
                    known = self._logs[instance] = Log(directory)
                except OSError as error:
                    raise StoreFailed(f"there can be no log in {directory}: {error.strerror}") from error
            return known

    def reader(self, instance: str, *, follow: bool, since: int, tail: int | None) -> LogReader:
        """What it holds, or, with *follow*, what it will hold until its instance serves no more."""
        with self._lock:
            directory = self._place() / instance
        return LogReader(directory, follow=follow, since=since, tail=tail)

    def end(self, instance: str) -> None:
        """Let who follows it come to its end; it can go on later."""
        with self._lock:
            if log := self._logs.get(instance):
                log.end()

    def forget(self, instance: str) -> None:
        """Remove it."""
        with self._lock:
            if log := self._logs.pop(instance, None):
                log.end()
            shutil.rmtree(self._place() / instance, ignore_errors=True)

    def close(self) -> None:
        """Write no more; what goes with this object goes now."""
        with self._lock:
            for log in self._logs.values():
                log.flush()
                log.close() if self._directory else log.end()
            self._logs.clear()
            if self._owner:
                shutil.rmtree(self._place(), ignore_errors=True)
                self._owner.close()
                self._owner = None

    def _place(self) -> Path:
        if self._directory:
            return self._directory
        if not self._owner:
            self._owner = Owner(self._config.owners)
        return _passing(self._config) / self._owner.name


def _passing(config: Config) -> Path:
    """Where engines have their logs that keep none, each in a directory of its own."""
    return config.logs / "passing"


def _sweep(config: Config) -> None:
    owners.sweep(config.owners)
    for left in _passing(config).glob("*"):
        if not owners.lives(config.owners / left.name):
            shutil.rmtree(left, ignore_errors=True)
