"""A command run in a sandbox for who speaks HTTP only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol, Self

from aegis_daemon.bodies import Ended, Exited, NewCommand, Stderr, Stdout
from aegis_sdk import InputClosed, Sandbox
from aegis_sdk.engine.base import Engine
from aegis_sdk.errors import AegisError


class Hearer(Protocol):
    """Who writes down what a command says."""

    def feed(self, source: str, data: bytes) -> None:
        """Take what comes next."""


Line = Stdout | Stderr | Exited


class Execution:
    """The lines that a command gives; any thread may close it, which ends the command and whoever waits for a line."""

    def __init__(self, engine: Engine, sandbox: str, asked: NewCommand, *, log: Hearer | None = None) -> None:
        self._log = log
        self._sandbox = Sandbox.get(sandbox, engine=engine)
        self._process = self._sandbox.start(
            *asked.command, stdin=bool(asked.input), env=asked.env, cwd=asked.cwd, user=asked.user
        )
        if asked.input:
            threading.Thread(target=self._feed, args=(asked.input,), name="input", daemon=True).start()
        self._lines = self._told(asked.timeout)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Line:
        return next(self._lines)

    def close(self) -> None:
        """End the command, if it has not ended."""
        self._sandbox.close()

    def _feed(self, data: bytes) -> None:
        with suppress(InputClosed, AegisError):  # who reads its output hears why
            self._process.write(data)
            self._process.close_stdin()

    def _told(self, timeout: float | None) -> Iterator[Line]:
        timed_out = False
        try:
            yield from map(self._piece, self._process.output(timeout))
        except TimeoutError:
            timed_out = True
            self._process.end()
            yield from map(self._piece, self._process.output())
        yield Exited(
            exit=Ended(
                exit_code=self._process.wait(),
                signal=self._process.signal,
                timed_out=timed_out,
                out_of_memory=self._process.out_of_memory,
                out_of_processes=self._process.out_of_processes,
            )
        )

    def _piece(self, said: tuple[str, bytes]) -> Line:
        name, piece = said
        if self._log:
            self._log.feed("exec", piece)
        return Stdout(stdout=piece) if name == "stdout" else Stderr(stderr=piece)
