"""How far the layers of an image are: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import aegis_sdk as aegis
from aegis_cli import words

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_DONE = {"fetch": "fetched", "unpack": "unpacked"}


@contextmanager
def progress_on_stderr(*, quiet: bool) -> Iterator[Callable[[aegis.Progress], None] | None]:
    """Something to give to a pull as its *progress*, shown on standard error; None if nothing is to be shown."""
    if quiet or not sys.stderr:  # which may be closed
        yield None
        return
    with shown(sys.stderr) as progress:
        yield progress


@contextmanager
def shown(stream: TextIO) -> Iterator[Callable[[aegis.Progress], None]]:
    """Something to give to a pull as its *progress*; what it shows on *stream* is complete when the block ends."""
    if not stream.isatty():
        yield _Lines(stream)
        return
    bars = _Bars(stream)
    try:
        yield bars
    finally:
        bars.close()


class _Lines:
    """One line when a step of a layer has ended."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._said: set[tuple[int, str]] = set()

    def __call__(self, progress: aegis.Progress) -> None:
        step = (progress.number, progress.step)
        if progress.done != progress.total or step in self._said:
            return
        self._said.add(step)
        self._stream.write(f"{_title(progress)} {_DONE[progress.step]} {words.size(progress.done)}\n")
        self._stream.flush()


class _Bars:
    """A bar for each layer, gone when all is done."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bars: Progress | None = None  # made when there is something to show: rich is 50 ms to import
        self._tasks: dict[int, TaskID] = {}

    def __call__(self, progress: aegis.Progress) -> None:
        bars = self._bars = self._bars or _start(self._stream)
        if progress.number not in self._tasks:
            self._tasks[progress.number] = bars.add_task("", total=progress.total)
        described = f"{_title(progress)} {progress.step:8}"
        task = self._tasks[progress.number]
        bars.update(task, description=described, completed=progress.done, total=progress.total)

    def close(self) -> None:
        if self._bars:
            self._bars.stop()


def _title(progress: aegis.Progress) -> str:
    width = len(str(progress.layers))
    name = words.printable(progress.layer.rpartition(":")[2])
    return f"layer {progress.number:{width}}/{progress.layers} {name[:12]}"


def _start(stream: TextIO) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    bars = Progress(
        *columns, console=Console(file=stream), transient=True, redirect_stdout=False, redirect_stderr=False
    )
    bars.start()
    return bars
