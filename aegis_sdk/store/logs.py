"""A log: what was said, in files of a directory of its own, of which the oldest go when they are too many.

Its writer knows no readers: they read the files, and are woken by the kernel.
"""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import suppress
from pathlib import Path

from aegis_sdk.artifacts import private
from aegis_sdk.store.records import END, Record, blocks, cut, parse

#: What a log takes at most (bytes).
LIMIT = 16 << 20
_SEGMENTS = 8
_SUFFIX = ".ndjson"
_NAME = re.compile(r"[0-9]{20}\.ndjson")  # what else is there is none of ours


def segments(directory: Path) -> list[int]:
    """The numbers of the first entries of a log's files, in their order; none if it has not begun, or is gone."""
    try:
        return sorted(int(path.stem) for path in directory.iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []


def segment(directory: Path, first: int) -> Path:
    """The file whose first entry has that number."""
    return directory / f"{first:020}{_SUFFIX}"


def last_entry(directory: Path) -> int:
    """The number of a log's last entry; 0 if it has none."""
    for first in reversed(segments(directory)):
        with suppress(FileNotFoundError):  # it has just been removed
            lines = segment(directory, first).read_bytes().splitlines(keepends=True)
            records = (parse(line) for line in reversed(lines) if line.endswith(b"\n"))
            return next((record.last for record in records if record), first - 1)
    return 0


def has_ended(directory: Path) -> bool:
    """Whether nobody is to write to a log any more."""
    known = segments(directory)
    return not known or segment(directory, known[-1]).read_bytes().endswith(END)


class Log:
    """The one writer of a log, which goes on where an earlier one has stopped. Any thread may use it.

    What cannot be written, on a full disk, is missing in the log, and holds nobody up.
    """

    def __init__(self, directory: Path, *, limit: int = LIMIT) -> None:
        self._directory, self._limit = private(directory), limit
        self._next = last_entry(directory) + 1
        self._unfinished: dict[str, bytes] = {}
        self._file: int | None = None  # until something is written
        self._size = 0
        self._lock = threading.RLock()

    @property
    def unfinished(self) -> bool:
        """Whether there is a line that ``flush`` would make an entry of."""
        return any(self._unfinished.values())

    def feed(self, source: str, data: bytes) -> None:
        """Take what comes next from *source*: each line is an entry when it is whole, or longer than one can be."""
        with self._lock:
            whole, self._unfinished[source] = cut(self._unfinished.get(source, b"") + data)
            self._write(source, whole)

    def say(self, text: str) -> None:
        """Have a line of Aegis's own, behind all that has come."""
        with self._lock:
            self.flush()
            self._write("system", f"{text}\n".encode())

    def flush(self) -> None:
        """Make entries of the lines that are not finished: their sources pause, or have ended."""
        with self._lock:
            unfinished, self._unfinished = self._unfinished, {}
            for source, data in unfinished.items():
                self._write(source, data)

    def end(self) -> None:
        """Write what is left, and that it was the last: who follows the log is at its end."""
        with self._lock:
            self.flush()
            self._put(END)
            self.close()

    def close(self) -> None:
        """Give the file back; the log has no end yet."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                os.close(file)

    def _write(self, source: str, data: bytes) -> None:
        lines, size, now = [], 0, time.time()
        for block in blocks(data):
            record = Record(sequence=self._next, time=now, source=source, data=block)
            lines.append(record.encode())
            size += len(lines[-1])
            self._next = record.last + 1
            if self._size + size > self._limit // _SEGMENTS:
                self._put(b"".join(lines))
                self.close()
                lines, size = [], 0
        if lines:
            self._put(b"".join(lines))

    def _put(self, lines: bytes) -> None:
        try:
            if self._file is None:
                self._file, self._size = self._begin(parse(lines.partition(b"\n")[0])), 0
            left = memoryview(lines)
            while left:
                left = left[os.write(self._file, left) :]
            self._size += len(lines)
        except OSError:
            self.close()  # what comes next begins a file, so that half a line is followed by none

    def _begin(self, record: Record | None) -> int:
        first = record.sequence if record else self._next
        for oldest in segments(self._directory)[: -_SEGMENTS + 1]:
            segment(self._directory, oldest).unlink(missing_ok=True)
        path = segment(self._directory, first)
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
