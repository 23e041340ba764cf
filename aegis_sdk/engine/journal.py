"""What the consoles of sandboxes say, and what becomes of each: a log for as long as the sandbox is there."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Container
from functools import partial
from pathlib import Path

import attrs

from aegis_sdk.drivers.base import Witness
from aegis_sdk.engine.attempts import Attempts
from aegis_sdk.errors import StoreFailed
from aegis_sdk.model import Ending
from aegis_sdk.store.logs import Log, has_ended
from aegis_sdk.store.reader import LogReader

_LOST = "the daemon that ran it has ended"


@attrs.frozen
class _Witness:
    """Writes down what a machine's console says, and its end."""

    log: Log
    part: Callable[[], object]

    def said(self, data: bytes) -> None:
        self.log.feed("boot", data)

    def ended(self, ending: Ending) -> None:
        self.part()
        self.log.say(f"it has ended: {ending}")
        self.log.end()


class Journal:
    """The logs of the sandboxes of one engine, which alone writes in *directory*."""

    def __init__(self, directory: Path, kept: Container[str]) -> None:
        """Go on where another engine has stopped, with the sandboxes that it *kept*."""
        self._directory = directory
        self._logs: dict[str, Log] = {}  # of those that run
        for path in directory.iterdir() if directory.exists() else ():
            if path.name not in kept:
                self.forget(path.name)
            elif not has_ended(path):
                log = self._log(path.name)
                log.say(_LOST)
                log.end()

    def witness(self, sandbox: str) -> Witness:
        """Who writes down what a machine of *sandbox* says; StoreFailed."""
        log = self._logs[sandbox] = self._log(sandbox)
        return _Witness(log, partial(self._logs.pop, sandbox, None))

    def attempts(self, sandbox: str) -> Attempts:
        """Who writes down what the guest that this machine runs tries to reach, of a sandbox with a witness."""
        return Attempts(self._logs[sandbox])

    def note(self, sandbox: str, text: str) -> None:
        """Write down what has become of a sandbox."""
        if log := self._logs.get(sandbox):
            log.say(text)

    def reader(self, sandbox: str, *, follow: bool, since: int, tail: int | None) -> LogReader:
        """Its log, to be read, or followed until its machine has ended."""
        return LogReader(self._directory / sandbox, follow=follow, since=since, tail=tail)

    def forget(self, sandbox: str) -> None:
        """Remove the log of a sandbox that was removed."""
        self._logs.pop(sandbox, None)
        shutil.rmtree(self._directory / sandbox, ignore_errors=True)

    def _log(self, sandbox: str) -> Log:
        try:
            return Log(self._directory / sandbox)
        except OSError as error:
            raise StoreFailed(f"there can be no log in {self._directory}: {error.strerror}") from error
