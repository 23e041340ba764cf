"""Standing between a command in a guest and the standard streams of this process."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import Self

import aegis_sdk as aegis
from aegis_cli import terminal
from aegis_cli.advice import Advice
from aegis_cli.words import say

_TIMED_OUT = 124
_CHUNK = 1 << 16
# Longer than a command has between SIGTERM and SIGKILL.
_LAST_OUTPUT = 15.0
_AFTER_CTRL_C = 5.0
_FILES = {"stdout": 1, "stderr": 2}
Hear = Callable[[str, bytes], None]
Tried = Callable[[], Sequence[aegis.NetworkEvent]]


def attend(process: aegis.Process, *, tty: bool = False, timeout: float | None = None, tried: Tried = tuple) -> int:
    """Pass input and output on until *process* has ended; the exit code that says how.

    With *tty* it has our terminal; it is ended after *timeout* seconds. Before it has begun, Ctrl-C is not for it, but
    a KeyboardInterrupt. If it fails, *tried* is asked for what its guest has tried to reach.
    """
    advice = Advice()
    lent = process.pid is not None and tty  # what could not be started has only words for us
    with _Limit(process, timeout) as limit:
        with terminal.lent(process) if lent else nullcontext():
            read = _read if lent else _unless_in_background
            threading.Thread(target=_feed, args=(process, read), daemon=True).start()
            code = _pass_on(process, limit, advice.hear)
        if limit.reached:
            say(f"aegis: timed out after {limit.seconds:g} s")
            return _TIMED_OUT
    advice.give(process, code, _heard(tried) if code else ())
    return code


def _heard(tried: Tried) -> Sequence[aegis.NetworkEvent]:
    with suppress(aegis.AegisError):  # which must not hide how the command ended
        return tried()
    return ()


class _Limit:
    """A command's time limit, which holds even while nobody takes its output."""

    def __init__(self, process: aegis.Process, seconds: float | None) -> None:
        self._process = process
        self._over = threading.Event()
        self.seconds = seconds
        self.reached = False

    def __enter__(self) -> Self:
        if self.seconds is not None and self.seconds <= threading.TIMEOUT_MAX:
            threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        if self._over.wait(self.seconds):
            return
        self.reached = True
        try:
            self._process.end()
        except aegis.AegisError:
            self._process.close()
        if not self._over.wait(_LAST_OUTPUT):
            self._process.close()


def _pass_on(process: aegis.Process, limit: _Limit, hear: Hear) -> int:
    try:
        _show(process, hear=hear)
        return process.wait()
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except aegis.AegisError:
        if not limit.reached:
            raise
        return _TIMED_OUT
    except KeyboardInterrupt:
        process.kill(signal.SIGINT)
        with suppress(TimeoutError):  # if it will not go, its guest goes now
            _show(process, _AFTER_CTRL_C)
        return 128 + signal.SIGINT


def _show(process: aegis.Process, timeout: float | None = None, *, hear: Hear = lambda *_: None) -> None:
    for stream, piece in process.output(timeout):
        write(_FILES[stream], piece)
        hear(stream, piece)


def write(file: int, data: bytes) -> None:
    """Write all of *data* to a descriptor, whatever somebody has made of it; OSError."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(file, left) :]
        except BlockingIOError:  # somebody else made our terminal or pipe non-blocking
            select.select([], [file], [])


def _feed(process: aegis.Process, read: Callable[[], bytes]) -> None:
    """Pass standard input on, until there is no more or nobody takes it."""
    try:
        while data := read():
            process.write(data)
        process.close_stdin()
    except aegis.AegisError:
        pass  # the thread that waits for the process says it


def _unless_in_background() -> bytes:
    return b"" if terminal.in_background() else _read()


def _read() -> bytes:
    while True:
        try:
            return os.read(0, _CHUNK)
        except BlockingIOError:  # somebody else made our terminal or pipe non-blocking
            select.select([0], [], [])
        except OSError as error:
            say(f"aegis: standard input cannot be read: {error.strerror}")
            return b""
