"""What helps a command that failed for a limit of its guest, said once behind its own words."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

import aegis_sdk as aegis
from aegis_cli.words import say

_KEPT = 1 << 16


@attrs.define
class Advice:
    """Hears what a command says on standard error, and keeps the end of it."""

    _said: bytes = b""

    def hear(self, stream: str, piece: bytes) -> None:
        """Take the next piece of one of its streams."""
        if stream == "stderr":
            self._said = (self._said + piece)[-_KEPT:]

    def give(self, process: aegis.Process, code: int, refused: Iterable[aegis.NetworkEvent] = ()) -> None:
        """Say on standard error what helps *process*, which ended with exit code *code*, if anything does.

        *refused* is what its guest has tried to reach meanwhile.
        """
        completed = aegis.Completed(
            argv=process.argv,
            exit_code=code,
            stdout_bytes=b"",
            stderr_bytes=self._said,
            duration=0.0,
            out_of_memory=process.out_of_memory,
            out_of_processes=process.out_of_processes,
            refused=tuple(refused),
        )
        for line in completed.hint.splitlines():
            say(f"aegis: {line}")
