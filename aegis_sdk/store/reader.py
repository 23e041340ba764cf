"""Reading a log, and following it: at any place, by any process, at the reader's own pace."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from aegis_sdk.model import LogEntry
from aegis_sdk.store import owners
from aegis_sdk.store.changes import changes
from aegis_sdk.store.logs import last_entry, segment, segments
from aegis_sdk.store.records import END, LONGEST, Record, parse

_CHUNK = 64 << 10
#: Where the kernel does not tell of a writer's death, it is looked for that often (seconds).
_LOOK = None if sys.platform == "linux" else 1.0


class LogReader:
    """The entries of a log after number *since*, and of these the last *tail*, in batches.

    With *follow* it goes on until the log has ended, or its writer has, whose owner's file is *owner*: wait until
    ``fileno`` is readable, by whatever waits for descriptors, and ``read`` again. What the log has lost before it could
    be read is an entry, too, which says so.
    """

    def __init__(
        self,
        directory: Path,
        *,
        since: int = 0,
        tail: int | None = None,
        follow: bool = False,
        owner: Path | None = None,
    ) -> None:
        self._directory, self._owner = directory, owner
        self._changes = changes() if follow else None
        self._file: _Segment | None = None  # until the log has begun
        self._final = False  # whether what was read last is the log's end
        self.ended = False
        try:
            for path in (directory, *([owner] if owner else ())):
                self._watch(path)
            self._next = since + 1 if tail is None else max(since, last_entry(directory) - tail) + 1
        except BaseException:
            self.close()
            raise

    def read(self) -> list[LogEntry]:
        """What comes next and is there, as a batch of bounded size; none if nothing is there now, or it has ended."""
        if self.ended:
            return []
        if self._changes:
            self._changes.rest()
        while lines := self._lines():
            if entries := [entry for line in lines for entry in self._entries(line)]:
                return entries
        if not self._changes or self._final:
            self.ended = True
        elif self._owner and not owners.lives(self._owner):
            self._owner = None
            self._final = True  # but for what it wrote before it ended
            return self.read()
        return []

    def fileno(self) -> int:
        """What becomes readable when there may be more; only of one that follows."""
        if not self._changes:
            raise ValueError("this reader does not follow its log")
        return self._changes.fileno()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there may be more; false after *timeout* seconds."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        times = [seconds for seconds in (timeout, _LOOK) if seconds is not None]
        return bool(poll.poll(min(times) * 1000 if times else None))

    def __iter__(self) -> Iterator[LogEntry]:
        """Each entry, waiting for it if need be, to the end; then it is closed."""
        with self:
            while not self.ended:
                if entries := self.read():
                    yield from entries
                elif not self.ended:
                    self.wait()

    def close(self) -> None:
        """Give everything back; fine twice."""
        self.ended = True
        if self._file:
            self._file.close()
            self._file = None
        if self._changes:
            self._changes.close()
            self._changes = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _watch(self, path: Path) -> None:
        if self._changes:
            with suppress(FileNotFoundError):  # it has ended, or has been removed
                self._changes.watch(path)

    def _lines(self) -> list[bytes]:
        """The next lines of the files."""
        while True:
            # Looked for first: what comes before the next file is whole then.
            following = self._following()
            if self._file and (lines := self._file.lines()):
                return lines
            if following is None or not self._open(following):
                return []

    def _following(self) -> int | None:
        """The first entry of the file after the one that is read."""
        known = segments(self._directory)
        if self._file:
            return next((first for first in known if first > self._file.first), None)
        return next((first for first in reversed(known) if first <= self._next), known[0] if known else None)

    def _open(self, first: int) -> bool:
        path = segment(self._directory, first)
        try:
            opened = _Segment(path, first)
        except FileNotFoundError:  # it has just been removed
            return bool(segments(self._directory))
        if self._file:
            self._file.close()
            if self._changes:
                self._changes.forget(self._file.path)
        self._file = opened
        self._watch(path)
        return True

    def _entries(self, line: bytes) -> Iterator[LogEntry]:
        self._final = line == END
        record = parse(line)
        if not record or record.last < self._next:
            return
        if record.sequence > self._next:
            yield _missing(self._next, record)
        yield from (entry for entry in record.entries() if entry.sequence >= self._next)
        self._next = record.last + 1


class _Segment:
    """An open file of a log, which can be read on when it has been removed."""

    def __init__(self, path: Path, first: int) -> None:
        self.path, self.first = path, first
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._torn = b""  # a line that is not whole, yet or at all

    def lines(self) -> list[bytes]:
        """The next whole lines, if there are any."""
        while data := os.read(self._file, _CHUNK):
            data = self._torn + data
            end = data.rfind(b"\n") + 1
            self._torn = data[end:][-LONGEST:]
            if end:
                return data[:end].splitlines(keepends=True)
        return []

    def close(self) -> None:
        os.close(self._file)


def _missing(first: int, record: Record) -> LogEntry:
    count = record.sequence - first
    words = f"{count} {'entry is' if count == 1 else 'entries are'} missing here: the log had no more room\n"
    return LogEntry(sequence=record.sequence - 1, time=record.time, source="system", data=words.encode())
